import CQuire

/// A token's number in the model's vocabulary.
public typealias TokenID = UInt32

/// One event of an answer. Any number of the others come before exactly one ``finished(_:)``.
public enum GenerationEvent: Sendable, Hashable {
    /// New text of the answer.
    case text(Delta)
    /// New text of what the model thinks before it answers.
    case reasoning(Delta)
    /// A complete call of a tool, and the tokens it was written with.
    case toolCall(ToolCall, Delta)
    /// The answer has ended, and this is how.
    case finished(Completion)
}

/// A piece of an answer. A reader that falls behind gets longer pieces, not more of them.
public struct Delta: Sendable, Hashable {
    /// Whole characters; empty where a character is not complete yet, or the model has no tokenizer.
    public let text: String
    /// The tokens, in order.
    public let tokens: [TokenID]
    /// For each token, if ``GenerationOptions/logProbabilities`` asks for them: how likely it was; else empty.
    public let logProbabilities: [LogProbability]
    /// In the first piece, if they are asked for: for each token of the prompt, from the second on, how likely it was.
    public let promptLogProbabilities: [LogProbability]
}

/// How likely the model found a token: natural logarithms of its own probabilities, before every setting.
public struct LogProbability: Sendable, Hashable {
    /// That of the token itself.
    public let value: Float
    /// The most likely tokens in its place, most likely first: as many as were asked for.
    public let alternatives: [Alternative]

    public struct Alternative: Sendable, Hashable {
        public let token: TokenID
        public let value: Float
    }
}

extension Delta: CustomStringConvertible {
    public var description: String { text }
}

/// A call of a tool, as the model wrote it.
public struct ToolCall: Sendable, Hashable, Codable {
    /// The tool's name.
    public var name: String
    /// Its arguments, a JSON object.
    public var arguments: String

    public init(name: String, arguments: String) {
        self.name = name
        self.arguments = arguments
    }
}

/// Why an answer ended.
public enum FinishReason: Sendable, Hashable {
    /// The model said so, with this token.
    case endOfSequence(TokenID)
    /// One of the request's stop tokens came.
    case stopToken(TokenID)
    /// The request's stop string of this index came.
    case stopString(Int)
    /// Its grammar is complete: nothing could follow.
    case grammar
    /// It has as many tokens as were asked for.
    case length
    /// It was cancelled, or the engine was shut down.
    case cancelled
    /// A reason of a newer library.
    case unknown(Int32)
}

/// How an answer ended, and what it took.
public struct Completion: Sendable, Hashable {
    public let finishReason: FinishReason
    public let usage: Usage
    public let timings: Timings
}

/// Tokens of a request.
public struct Usage: Sendable, Hashable {
    /// Tokens in the prompt.
    public let promptTokens: Int
    /// Prompt tokens that were in the cache and cost nothing.
    public let cachedTokens: Int
    /// Tokens generated, the one that ended the answer included.
    public let generatedTokens: Int
}

/// Times of a request, all from its submission on.
public struct Timings: Sendable, Hashable {
    /// Until the request first ran.
    public let queued: Duration
    /// Until its first token was known; nil if there was none.
    public let firstToken: Duration?
    /// Until its end.
    public let total: Duration

    /// Tokens a second once the first was known; nil if there were not two.
    public func tokensPerSecond(_ usage: Usage) -> Double? {
        guard let firstToken, usage.generatedTokens > 1 else { return nil }
        let seconds = (total - firstToken) / .seconds(1)
        return seconds > 0 ? Double(usage.generatedTokens - 1) / seconds : nil
    }
}

extension GenerationEvent {
    init?(_ event: borrowing quire_event) {
        switch event.kind {
        case QUIRE_EVENT_DELTA:
            self = .text(Delta(event))
        case QUIRE_EVENT_REASONING:
            self = .reasoning(Delta(event))
        case QUIRE_EVENT_TOOL_CALL:
            let name = String(utf8: event.tool_name, count: event.tool_name_len)
            let call = ToolCall(name: name, arguments: String(utf8: event.text, count: event.text_len))
            self = .toolCall(call, Delta(event, text: ""))
        case QUIRE_EVENT_FINISHED, QUIRE_EVENT_CANCELLED:
            self = .finished(Completion(event))
        default:
            return nil
        }
    }
}

extension Delta {
    /// Pieces that follow each other, as one.
    init(joining pieces: [Delta]) {
        text = pieces.map(\.text).joined()
        tokens = pieces.flatMap(\.tokens)
        logProbabilities = pieces.flatMap(\.logProbabilities)
        promptLogProbabilities = pieces.flatMap(\.promptLogProbabilities)
    }

    init(_ event: borrowing quire_event) {
        self.init(event, text: String(utf8: event.text, count: event.text_len))
    }

    fileprivate init(_ event: borrowing quire_event, text: String) {
        self.text = text
        tokens = Array(UnsafeBufferPointer(start: event.tokens, count: event.token_count))
        logProbabilities = LogProbability.list(
            event.logprobs, count: event.token_count, top: event.top_logprobs, each: event.top_logprob_count)
        promptLogProbabilities = LogProbability.list(
            event.prompt_logprobs, count: event.prompt_logprob_count, top: event.prompt_top_logprobs,
            each: event.prompt_top_logprobs_each)
    }
}

extension LogProbability {
    /// The library's arrays: a value for each token, and so many alternatives for each; none if there are no values.
    fileprivate static func list(
        _ values: UnsafePointer<Float>?, count: Int, top: UnsafePointer<quire_token_logprob>?, each: Int
    ) -> [LogProbability] {
        guard let values else { return [] }
        return (0..<count).map { index in
            let alternatives = UnsafeBufferPointer(start: top.map { $0 + index * each }, count: top == nil ? 0 : each)
            return LogProbability(
                value: values[index],
                alternatives: alternatives.map { Alternative(token: $0.token, value: $0.logprob) }
            )
        }
    }
}

extension FinishReason {
    init(_ event: borrowing quire_event) {
        self =
            switch event.finish_reason {
            case QUIRE_FINISH_NONE: .cancelled
            case QUIRE_FINISH_END_OF_SEQUENCE: .endOfSequence(event.stop_token)
            case QUIRE_FINISH_STOP_TOKEN: .stopToken(event.stop_token)
            case QUIRE_FINISH_STOP_STRING: .stopString(Int(event.stop_string))
            case QUIRE_FINISH_GRAMMAR: .grammar
            case QUIRE_FINISH_LENGTH: .length
            case let other: .unknown(other)
            }
    }
}

extension Completion {
    init(_ event: borrowing quire_event) {
        finishReason = FinishReason(event)
        usage = Usage(
            promptTokens: Int(event.prompt_tokens),
            cachedTokens: Int(event.cached_tokens),
            generatedTokens: Int(event.generated_tokens)
        )
        timings = Timings(
            queued: .nanoseconds(Int64(clamping: event.queue_ns)),
            firstToken: event.first_token_ns == 0 ? nil : .nanoseconds(Int64(clamping: event.first_token_ns)),
            total: .nanoseconds(Int64(clamping: event.total_ns))
        )
    }
}

extension String {
    /// A copy of the library's text, which is valid UTF-8.
    init(utf8 bytes: UnsafePointer<CChar>?, count: Int) {
        self.init(decoding: UnsafeRawBufferPointer(start: bytes, count: count), as: UTF8.self)
    }
}
