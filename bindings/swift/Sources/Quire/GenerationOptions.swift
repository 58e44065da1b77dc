import CQuire

/// How an answer is made. What is nil is as the library has it by default.
public struct GenerationOptions: Sendable, Hashable {
    /// How a token is chosen.
    public struct SamplingMode: Sendable, Hashable {
        var isGreedy = false
        var top: Int?
        var probabilityThreshold: Double?
        var minimumProbability: Double?
        var seed: UInt64?

        /// Always the most likely token.
        public static var greedy: SamplingMode { SamplingMode(isGreedy: true) }

        /// By chance, among the most likely tokens.
        ///
        /// - Parameters:
        ///   - top: Only this many of the most likely tokens (top-k).
        ///   - probabilityThreshold: Only the fewest tokens that together have this probability (top-p).
        ///   - minimumProbability: Only tokens at least this many times as likely as the most likely one (min-p).
        ///   - seed: The same seed, prompt and options give the same answer, whatever else runs. Random if nil.
        public static func random(
            top: Int? = nil,
            probabilityThreshold: Double? = nil,
            minimumProbability: Double? = nil,
            seed: UInt64? = nil
        ) -> SamplingMode {
            SamplingMode(
                top: top, probabilityThreshold: probabilityThreshold, minimumProbability: minimumProbability, seed: seed)
        }
    }

    /// How a token is chosen. If nil: by chance if there is a temperature above 0, else the most likely one.
    public var sampling: SamplingMode?
    /// How much chance there is: 0 is none, 1 the model's own probabilities. If nil: 1 where ``sampling`` is random.
    public var temperature: Double?
    /// Most tokens to generate. 256 by default.
    public var maximumResponseTokens: Int?
    /// Texts that end the answer, and are no part of it.
    public var stopStrings: [String]
    /// Tokens that end the answer, besides the model's own.
    public var stopTokens: [TokenID]
    /// Whether to go on past the model's own end of the answer.
    public var ignoresEndOfSequence: Bool
    /// Requests of higher priority start first and are put aside last.
    public var priority: Int
    /// The answer fails with ``QuireError/Code/deadlineExceeded`` if it is not done after this time.
    public var timeout: Duration?
    /// Requests share cached prefixes only if their salts are equal: give each tenant its own.
    public var cacheSalt: String
    /// What the answer must look like.
    public var grammar: Grammar?
    /// Whether the model is to think before it answers, in a conversation.
    public var thinking: ThinkingMode

    public init(
        sampling: SamplingMode? = nil,
        temperature: Double? = nil,
        maximumResponseTokens: Int? = nil,
        stopStrings: [String] = [],
        stopTokens: [TokenID] = [],
        ignoresEndOfSequence: Bool = false,
        priority: Int = 0,
        timeout: Duration? = nil,
        cacheSalt: String = "",
        grammar: Grammar? = nil,
        thinking: ThinkingMode = .automatic
    ) {
        self.sampling = sampling
        self.temperature = temperature
        self.maximumResponseTokens = maximumResponseTokens
        self.stopStrings = stopStrings
        self.stopTokens = stopTokens
        self.ignoresEndOfSequence = ignoresEndOfSequence
        self.priority = priority
        self.timeout = timeout
        self.cacheSalt = cacheSalt
        self.grammar = grammar
        self.thinking = thinking
    }
}

extension GenerationOptions {
    func fill(_ raw: inout quire_request_options, _ arena: Arena) throws {
        if let maximumResponseTokens {
            raw.max_tokens = try fitting(maximumResponseTokens, "maximumResponseTokens")
        }
        try fillSampling(&raw)
        if !stopStrings.isEmpty {
            let strings = stopStrings.map { string in
                let (bytes, count) = arena.copy(string)
                return quire_string(bytes: bytes, len: count)
            }
            (raw.stop_strings, raw.stop_string_count) = (arena.copy(strings), strings.count)
        }
        (raw.stop_tokens, raw.stop_token_count) = (arena.copy(stopTokens), stopTokens.count)
        raw.ignore_eos = ignoresEndOfSequence ? 1 : 0
        raw.priority = try fitting(priority, "priority")
        if let timeout {
            // 0 is the library's "no deadline".
            raw.timeout_ms = UInt64(max(1, min(timeout / .milliseconds(1), 1e18)).rounded())
        }
        (raw.cache_salt, raw.cache_salt_len) = arena.copy(cacheSalt)
        if grammar != nil {
            throw QuireError(.invalidArgument, "grammar: this library has none yet")
        }
    }

    private func fillSampling(_ raw: inout quire_request_options) throws {
        if let temperature {
            raw.temperature = Float(temperature)
        }
        guard let sampling else { return }
        if sampling.isGreedy {
            if let temperature, temperature != 0 {
                throw QuireError(.invalidArgument, "temperature is \(temperature), and the sampling is greedy")
            }
            return
        }
        if temperature == nil {
            raw.temperature = 1
        }
        if let top = sampling.top {
            raw.top_k = try fitting(top, "top")
        }
        if let threshold = sampling.probabilityThreshold {
            raw.top_p = Float(threshold)
        }
        if let minimum = sampling.minimumProbability {
            raw.min_p = Float(minimum)
        }
        if let seed = sampling.seed {
            raw.seed = seed
        }
    }
}
