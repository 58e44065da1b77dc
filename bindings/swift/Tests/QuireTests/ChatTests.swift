import Foundation
import Testing

@testable import Quire

/// Conversations, on the mock with a chat template of the common kind.
@Suite(.mockOnly) struct ChatTests {
    static let template = """
        {%- if enable_thinking is defined %}<|thinking {{ enable_thinking }}|>{% endif -%}
        {%- if tools %}<|tools|>{% for tool in tools %}{{ tool | tojson }}{% endfor %}
        Call with <tool_call>{"name": ..., "arguments": ...}</tool_call>
        {% endif -%}
        {%- for m in messages -%}
        <|{{ m.role }}|>{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}
        {%- for call in m.tool_calls or [] -%}
        <tool_call>{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}</tool_call>
        {%- endfor -%}
        <|end|>
        {%- endfor -%}
        {%- if add_generation_prompt %}<|assistant|>{% endif -%}
        """

    /// Adds, and remembers what it was asked.
    struct Add: Tool {
        struct Arguments: Codable, Equatable {
            let a: Int
            let b: Int
        }

        struct Output: Encodable {
            let sum: Int
        }

        let name = "add"
        let description = "Adds two numbers"
        let asked = Locked<[Arguments]>([])

        func call(arguments: Arguments) async throws -> Output {
            asked.withLock { $0.append(arguments) }
            return Output(sum: arguments.a + arguments.b)
        }
    }

    private static func engine() async throws -> Engine {
        try await Engine(on: ModelCopy(template: template))
    }

    /// Answers that are either a call of the tool or plain text, which the mock chooses by the seed.
    private static func callOrText(_ call: String, seed: UInt64) -> GenerationOptions {
        var options = GenerationOptions(sampling: .random(seed: seed), maximumResponseTokens: 200)
        options.grammar = .choice(["<tool_call>\n\(call)\n</tool_call>", "It is done."])
        return options
    }

    @Test func theTemplateGetsAll() async throws {
        let engine = try await Self.engine()
        let transcript = Transcript([
            .instructions("Be \"brief\".\n"), .prompt("2 + 3?"),
            .toolCalls([ToolCall(name: "add", arguments: #"{"a": 2, "b": 3}"#)], text: "Well.", reasoning: "I add."),
            .toolOutput(#"{"sum":5}"#, toolName: "add"), .response("5\u{1}", reasoning: ""),
        ])
        let text = try engine.text(of: Prompt(transcript))
        #expect(
            text == "<|system|>Be \"brief\".\n<|end|><|user|>2 + 3?<|end|><|assistant|><think>I add.</think>Well."
                + #"<tool_call>{"name": "add", "arguments": {"a": 2, "b": 3}}</tool_call><|end|>"#
                + #"<|tool|>{"sum":5}<|end|><|assistant|>5"# + "\u{1}<|end|><|assistant|>")
        let withTools = try engine.text(of: Prompt(transcript, tools: [Add().definition]))
        #expect(withTools.contains(#""name": "add", "description": "Adds two numbers", "parameters": {"type": "object""#))
        #expect(withTools.contains(#""a": {"type": "integer"}"#))
    }

    @Test func aConversationGoesOn() async throws {
        let session = ChatSession(engine: try await Self.engine(), instructions: "Be brief.")
        let first = try await session.respond(to: "Hello", options: .tokens(20))
        #expect(first.usage.cachedTokens == 0)
        let second = try await session.respond(to: "And then?", options: .tokens(20))
        #expect(second.usage.cachedTokens > first.usage.promptTokens / 2)
        #expect(
            session.transcript.entries == [
                .instructions("Be brief."),
                .prompt("Hello"), .response(first.text, reasoning: first.reasoning),
                .prompt("And then?"), .response(second.text, reasoning: second.reasoning),
            ])
        let saved = try JSONEncoder().encode(session.transcript)
        let restored = try JSONDecoder().decode(Transcript.self, from: saved)
        #expect(restored == session.transcript)

        let goesOn = ChatSession(engine: session.engine, transcript: restored)
        try await goesOn.prewarm()
        let third = try await goesOn.respond(to: "Why?", options: .tokens(5))
        #expect(third.usage.cachedTokens > second.usage.promptTokens)
        session.reset()
        #expect(session.transcript.entries == [.instructions("Be brief.")])
    }

    @Test func aToolIsCalledAndTheAnswerGoesOn() async throws {
        let engine = try await Self.engine()
        var rounds: Set<Int> = []
        for seed in UInt64(0)..<40 {
            let tool = Add()
            let session = ChatSession(engine: engine, tools: [tool])
            let options = Self.callOrText(#"{"name": "add", "arguments": {"a": 2, "b": 3}}"#, seed: seed)
            guard let answer = try await answerUnlessEndless(session, options) else { continue }
            let calls = answer.toolCalls.count
            rounds.insert(calls)
            #expect(answer.text == "It is done.")
            #expect(answer.toolCalls.allSatisfy { $0.name == "add" })
            #expect(tool.asked.withLock { $0 } == Array(repeating: Add.Arguments(a: 2, b: 3), count: calls))
            let call = ToolCall(name: "add", arguments: answer.toolCalls.first?.arguments ?? "")
            var expected: [Transcript.Entry] = [.prompt("2 + 3?")]
            for _ in 0..<calls {
                expected.append(.toolCalls([call], text: "", reasoning: ""))
                expected.append(.toolOutput(#"{"sum":5}"#, toolName: "add"))
            }
            expected.append(.response("It is done.", reasoning: ""))
            #expect(session.transcript.entries == expected)
        }
        #expect(rounds.contains(0) && rounds.contains(1), "\(rounds)")
        try await expectAtRest(engine)
    }

    /// A model that calls again and again is stopped; the mock may be one.
    private func answerUnlessEndless(
        _ session: ChatSession, _ options: GenerationOptions
    ) async throws -> Response<String>? {
        do {
            return try await session.respond(to: "2 + 3?", options: options)
        } catch let error as QuireError where error.code == .invalidState {
            #expect(session.transcript.isEmpty)
            return nil
        }
    }

    @Test(arguments: [
        (#"{"name": "sub", "arguments": {"a": 2}}"#, "error: there is no tool named sub; there are: add"),
        (#"{"name": "add", "arguments": {"a": 2}}"#, "error: the arguments are not what the tool takes"),
    ])
    func theModelIsToldOfItsMistakes(call: String, told: String) async throws {
        let engine = try await Self.engine()
        var mistakes = 0
        for seed in UInt64(0)..<40 {
            let session = ChatSession(engine: engine, tools: [Add()])
            _ = try await answerUnlessEndless(session, Self.callOrText(call, seed: seed))
            for case .toolOutput(let output, _) in session.transcript {
                #expect(output.hasPrefix(told))
                mistakes += 1
            }
        }
        #expect(mistakes > 0)
    }

    @Test func whatAToolThrowsEndsTheAnswer() async throws {
        struct Broken: Tool {
            struct Failure: Error {}
            let name = "add"
            let description = "Fails"
            func call(arguments: Add.Arguments) async throws -> String { throw Failure() }
        }
        let engine = try await Self.engine()
        var failures = 0
        for seed in UInt64(0)..<40 {
            let session = ChatSession(engine: engine, tools: [Broken()])
            do {
                let options = Self.callOrText(#"{"name": "add", "arguments": {"a": 2, "b": 3}}"#, seed: seed)
                _ = try await session.respond(to: "2 + 3?", options: options)
            } catch let error as ToolCallError {
                #expect(error.underlyingError is Broken.Failure)
                #expect(error.tool.name == "add")
                #expect(session.transcript.isEmpty && !session.isResponding)
                failures += 1
            }
        }
        #expect(failures > 0)
        try await expectAtRest(engine)
    }

    @Test func anAnswerIsAValue() async throws {
        let session = ChatSession(engine: try await Self.engine())
        let answer = try await session.respond(
            to: "Which?", generating: SchemaTests.Suit.self, options: GenerationOptions(maximumResponseTokens: 20))
        #expect(session.transcript.entries == [.prompt("Which?"), .response("\"\(answer.content)\"", reasoning: "")])
    }

    @Test func oneAnswerAtATime() async throws {
        let session = ChatSession(engine: try await Self.engine())
        let stream = session.streamResponse(to: "Hello", options: .tokens(10))
        #expect(session.isResponding)
        await expectError(.invalidState, naming: "responding") { _ = try await session.respond(to: "And?") }
        #expect(try await stream.collect().tokens.count == 10)
        #expect(!session.isResponding)
        #expect(session.transcript.count == 2)
    }

    @Test func anAnswerThatIsDroppedOrFailsIsNotRecorded() async throws {
        let engine = try await Engine(on: ModelCopy(mock: #"{"step_micros": 500}"#, template: Self.template))
        let session = ChatSession(engine: engine)
        for try await event in session.streamResponse(to: "Hello", options: .tokens(5000)) {
            guard case .text = event else { continue }
            break
        }
        try await eventually("the turn has ended") { !session.isResponding }
        let task = Task { try await session.respond(to: "Hello", options: .tokens(5000)) }
        try await eventually("it runs") { session.isResponding && engine.statistics.runningRequests > 0 }
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        await expectError(.invalidArgument, naming: "max_tokens") {
            _ = try await session.respond(to: "Hello", options: .tokens(0))
        }
        #expect(session.transcript.isEmpty && !session.isResponding)
        try await expectAtRest(engine)
        #expect(try await session.respond(to: "Hello", options: .tokens(5)).tokens.count == 5)
        #expect(session.transcript.count == 2)
    }

    @Test func anAnswerThatIsEndedIsRecordedAsFarAsItCame() async throws {
        let engine = try await Engine(on: ModelCopy(mock: #"{"step_micros": 500}"#, template: Self.template))
        let session = ChatSession(engine: engine)
        let stream = session.streamResponse(to: "Hello", options: .tokens(5000))
        var text = ""
        for try await event in stream {
            if case .text(let delta) = event {
                text += delta.text
                stream.cancel()
            } else if case .finished(let completion) = event {
                #expect(completion.finishReason == .cancelled)
            }
        }
        #expect(session.transcript.entries == [.prompt("Hello"), .response(text, reasoning: "")])
        try await expectAtRest(engine)
    }

    @Test func thinkingIsSwitched() async throws {
        let engine = try await Self.engine()
        let transcript = Transcript([.prompt("Sure?")])
        let plain = try engine.text(of: Prompt(transcript))
        let off = try engine.text(of: Prompt(transcript, thinking: .off))
        #expect(off == "<|thinking False|>" + plain)
        var options = GenerationOptions(maximumResponseTokens: 1)
        options.thinking = .off
        let session = ChatSession(engine: engine)
        #expect(try await session.respond(to: "Sure?", options: options).usage.promptTokens == off.utf8.count)
        options.thinking = .on
        let itself = try await engine.respond(to: Prompt(transcript, thinking: .off), options: options)
        #expect(itself.usage.promptTokens == off.utf8.count)
    }

    @Test func reasoningIsKeptApart() async throws {
        let engine = try await Engine(on: ModelCopy(template: Self.template))
        var options = GenerationOptions(maximumResponseTokens: 200)
        options.grammar = .regex("<think>hm+</think>yes")
        let session = ChatSession(engine: engine)
        let answer = try await session.respond(to: "Sure?", options: options)
        #expect(answer.text == "yes")
        #expect(answer.reasoning.hasPrefix("hm"))
        #expect(session.transcript.last == .response("yes", reasoning: answer.reasoning))
        options.isParsed = false
        #expect(try await session.respond(to: "Sure?", options: options).text.hasPrefix("<think>hm"))
        options.isParsed = true
        #expect(try await engine.respond(to: "Sure?", options: options).text == "yes")
    }
}
