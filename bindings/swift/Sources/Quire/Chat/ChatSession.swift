/// A conversation with a model, its tools included.
///
/// One answer at a time; any number of sessions on one engine. What was said before is in the engine's cache, so each
/// turn computes only what is new. The transcript grows when a turn has finished: one that fails, or is dropped in the
/// middle, leaves it as it was.
public final class ChatSession: Sendable {
    public let engine: Engine
    public let tools: [any Tool]

    private struct State {
        var transcript: Transcript
        var isResponding = false
        /// Grows with every reset: a turn from before it has nothing to record.
        var resets = 0
    }

    private let state: Locked<State>

    /// A new conversation. Its `instructions` tell the model what to be or do.
    public convenience init(engine: Engine, tools: [any Tool] = [], instructions: String? = nil) {
        self.init(engine: engine, tools: tools, transcript: Transcript(instructions: instructions))
    }

    /// A conversation that goes on.
    public init(engine: Engine, tools: [any Tool] = [], transcript: Transcript) {
        self.engine = engine
        self.tools = tools
        state = Locked(State(transcript: transcript))
    }

    /// What was said.
    public var transcript: Transcript { state.withLock { $0.transcript } }

    /// Whether an answer is on its way.
    public var isResponding: Bool { state.withLock { $0.isResponding } }

    /// Forgets what was said, but for the instructions. An answer that is on its way is not recorded.
    public func reset() {
        state.withLock { state in
            state.resets += 1
            state.transcript = Transcript(
                state.transcript.prefix { entry in
                    if case .instructions = entry { true } else { false }
                })
        }
    }
}

extension ChatSession {
    /// Computes what was said so far, so that the next answer begins at once.
    public func prewarm() async throws {
        try await engine.prewarm(Prompt(transcript, tools: tools.map { try $0.definition }))
    }

    /// Answers, and returns the events as they come. Tools are called on the way, one after another, by the task that
    /// reads the events. Read by one task at a time.
    public func streamResponse(
        to prompt: String,
        options: GenerationOptions = GenerationOptions()
    ) -> ChatResponseStream {
        ChatResponseStream(turn: ChatTurn(session: self, prompt: prompt, options: options))
    }

    /// Returns the whole answer. ``Response/toolCalls`` has the calls that were made for it.
    public func respond(
        to prompt: String,
        options: GenerationOptions = GenerationOptions()
    ) async throws -> Response<String> {
        try await streamResponse(to: prompt, options: options).collect()
    }

    /// Returns the answer as a value: see ``Engine/respond(to:generating:schema:options:)``. No tools are called.
    public func respond<Value: Decodable & Sendable>(
        to prompt: String,
        generating type: Value.Type = Value.self,
        schema: JSONSchema? = nil,
        options: GenerationOptions = GenerationOptions()
    ) async throws -> Response<Value> {
        var options = options
        options.grammar = .jsonSchema(try schema ?? JSONSchema(for: type))
        return try await respond(to: prompt, options: options).decoded(as: type)
    }
}

extension ChatSession {
    /// What a turn begins with.
    struct Beginning {
        let transcript: Transcript
        let resets: Int
    }

    /// Begins a turn, unless there is one.
    func begin() throws -> Beginning {
        try state.withLock { state in
            guard !state.isResponding else {
                throw QuireError(.invalidState, "the session is responding already")
            }
            state.isResponding = true
            return Beginning(transcript: state.transcript, resets: state.resets)
        }
    }

    /// Ends a turn; with entries if it has finished.
    func end(_ beginning: Beginning, recording entries: [Transcript.Entry] = []) {
        state.withLock { state in
            state.isResponding = false
            if state.resets == beginning.resets {
                state.transcript.entries += entries
            }
        }
    }
}
