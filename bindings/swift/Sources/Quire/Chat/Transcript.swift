/// A conversation: a value to keep, save, and go on from.
public struct Transcript: Sendable, Hashable, Codable {
    /// One thing that was said.
    public enum Entry: Sendable, Hashable, Codable {
        /// What the model is told to be or do.
        case instructions(String)
        /// What the user said.
        case prompt(String)
        /// What the model answered.
        case response(String, reasoning: String)
        /// Tools that the model called, and what it said before that.
        case toolCalls([ToolCall], text: String, reasoning: String)
        /// What a tool gave.
        case toolOutput(String, toolName: String)
    }

    public var entries: [Entry]

    public init(_ entries: [Entry] = []) {
        self.entries = entries
    }

    public init(instructions: String?) {
        entries = instructions.map { [.instructions($0)] } ?? []
    }
}

extension Transcript: RandomAccessCollection {
    public var startIndex: Int { entries.startIndex }
    public var endIndex: Int { entries.endIndex }
    public subscript(position: Int) -> Entry { entries[position] }
}

extension Transcript {
    /// The conversation as the library takes it: a JSON array of messages.
    var json: String {
        var messages = Messages()
        for entry in entries {
            messages.add(entry)
        }
        return JSON.array(messages.list)
    }

    private struct Messages {
        var list: [String] = []
        /// Calls so far, and outputs: some templates want a call and its output to have the same id.
        var calls = 0
        var outputs = 0

        mutating func add(_ entry: Entry) {
            switch entry {
            case .instructions(let text):
                add("system", text)
            case .prompt(let text):
                add("user", text)
            case .response(let text, let reasoning):
                add("assistant", text, reasoned(reasoning))
            case .toolCalls(let calls, let text, let reasoning):
                let list = JSON.array(calls.map { self.call($0) })
                add("assistant", text, reasoned(reasoning) + [("tool_calls", list)])
            case .toolOutput(let text, let name):
                outputs += 1
                add("tool", text, [("name", JSON.string(name)), ("tool_call_id", id(outputs))])
            }
        }

        private mutating func add(_ role: String, _ text: String, _ more: [(name: String, value: String)] = []) {
            list.append(JSON.object([("role", JSON.string(role)), ("content", JSON.string(text))] + more))
        }

        private func reasoned(_ reasoning: String) -> [(name: String, value: String)] {
            reasoning.isEmpty ? [] : [("reasoning_content", JSON.string(reasoning))]
        }

        private mutating func call(_ call: ToolCall) -> String {
            calls += 1
            let function = JSON.object([("name", JSON.string(call.name)), ("arguments", call.arguments)])
            return JSON.object([("id", id(calls)), ("type", "\"function\""), ("function", function)])
        }

        /// Nine digits: Mistral's templates take no other ids.
        private func id(_ number: Int) -> String {
            let digits = String(number)
            return JSON.string(String(repeating: "0", count: Swift.max(0, 9 - digits.count)) + digits)
        }
    }
}
