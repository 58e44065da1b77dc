/// A whole answer.
public struct Response<Content: Sendable>: Sendable {
    /// The answer: its text, or the value that the text stands for.
    public let content: Content
    /// The answer's text, as the model wrote it.
    public let text: String
    /// What the model thought before it answered; empty if it did not.
    public let reasoning: String
    /// The tools it calls.
    public let toolCalls: [ToolCall]
    /// Its tokens, those of reasoning and calls included.
    public let tokens: [TokenID]
    /// For each token, if ``GenerationOptions/logProbabilities`` asks for them: how likely it was; else empty.
    public let logProbabilities: [LogProbability]
    /// If they are asked for: for each token of the prompt, from the second on, how likely it was.
    public let promptLogProbabilities: [LogProbability]
    /// How it ended, and what it took.
    public let completion: Completion

    public var finishReason: FinishReason { completion.finishReason }
    public var usage: Usage { completion.usage }
    public var timings: Timings { completion.timings }

    /// The same answer, understood in another way.
    func map<Other>(_ understand: (Content) throws -> Other) rethrows -> Response<Other> {
        Response<Other>(
            content: try understand(content), text: text, reasoning: reasoning, toolCalls: toolCalls, tokens: tokens,
            logProbabilities: logProbabilities, promptLogProbabilities: promptLogProbabilities, completion: completion)
    }
}

/// An answer that is not the value it should be. With a schema that fits the type this means that the answer was cut
/// off: see ``finishReason``.
public struct ResponseDecodingError: Error, Sendable {
    /// The answer.
    public let text: String
    public let finishReason: FinishReason
    /// What the decoder said.
    public let underlyingError: any Error
}

/// Puts an answer together from its events.
struct ResponseBuilder {
    private(set) var text = ""
    private(set) var reasoning = ""
    private(set) var toolCalls: [ToolCall] = []
    private var tokens: [TokenID] = []
    private var logProbabilities: [LogProbability] = []
    private var promptLogProbabilities: [LogProbability] = []

    mutating func add(_ event: GenerationEvent) {
        switch event {
        case .text(let delta):
            text += delta.text
            addTokens(delta)
        case .reasoning(let delta):
            reasoning += delta.text
            addTokens(delta)
        case .toolCall(let call, let delta):
            toolCalls.append(call)
            addTokens(delta)
        case .finished:
            break
        }
    }

    private mutating func addTokens(_ delta: Delta) {
        tokens += delta.tokens
        logProbabilities += delta.logProbabilities
        promptLogProbabilities += delta.promptLogProbabilities
    }

    func response(_ completion: Completion) -> Response<String> {
        Response(
            content: text, text: text, reasoning: reasoning, toolCalls: toolCalls, tokens: tokens,
            logProbabilities: logProbabilities, promptLogProbabilities: promptLogProbabilities, completion: completion)
    }
}

extension AsyncSequence where Element == GenerationEvent {
    /// Reads the events to the end and returns the whole answer.
    ///
    /// Throws `CancellationError` if the answer was cancelled: one that is cut short is not taken for whole.
    public func collect() async throws -> Response<String> {
        var builder = ResponseBuilder()
        for try await event in self {
            builder.add(event)
            if case .finished(let completion) = event {
                if completion.finishReason == .cancelled {
                    throw CancellationError()
                }
                return builder.response(completion)
            }
        }
        throw QuireError(.internal, "the events ended without one that says so")
    }
}

extension Response<String> {
    /// The answer's text as a value.
    func decoded<Value: Decodable & Sendable>(as type: Value.Type) throws -> Response<Value> {
        do {
            return try map { try JSON.decode(type, from: $0) }
        } catch {
            throw ResponseDecodingError(text: text, finishReason: finishReason, underlyingError: error)
        }
    }
}
