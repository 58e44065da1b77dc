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

    /// What keeps the model from repeating itself: what is taken from the chances of tokens that were there before.
    public struct Penalties: Sendable, Hashable {
        /// Divides the chances of tokens of prompt and answer, above 0 and at most 100; 1 is none.
        public var repetition: Double?
        /// Taken from those of tokens of the answer, -100 to 100.
        public var presence: Double?
        /// Taken from those of tokens of the answer, once for each time they are there, -100 to 100.
        public var frequency: Double?
        /// How many of the latest tokens count. All by default.
        public var window: Int?

        public init(
            repetition: Double? = nil, presence: Double? = nil, frequency: Double? = nil, window: Int? = nil
        ) {
            self.repetition = repetition
            self.presence = presence
            self.frequency = frequency
            self.window = window
        }
    }

    /// Which log-probabilities come with the tokens.
    public struct LogProbabilities: Sendable, Hashable {
        /// How many of the most likely tokens come with each, at most 20.
        public var alternatives: Int
        /// Whether those of the prompt's tokens come too. The prompt is then computed whole, whatever is cached.
        public var includesPrompt: Bool

        public init(alternatives: Int = 0, includesPrompt: Bool = false) {
            self.alternatives = alternatives
            self.includesPrompt = includesPrompt
        }
    }

    /// How a token is chosen. If nil: by chance if there is a temperature above 0, else the most likely one.
    public var sampling: SamplingMode?
    /// How much chance there is: 0 is none, 1 the model's own probabilities. If nil: 1 where ``sampling`` is random.
    public var temperature: Double?
    /// Most tokens to generate. 256 by default.
    public var maximumResponseTokens: Int?
    /// Tokens to generate before the answer may end.
    public var minimumResponseTokens: Int?
    /// Only the fewest tokens, most typical first, that together have this probability (locally typical sampling).
    public var typicalProbability: Double?
    /// How often, 0 to 1, XTC takes place for a token: of the tokens at least as likely as ``xtcThreshold`` only the
    /// least likely is kept.
    public var xtcProbability: Double?
    /// From which probability on XTC looks at a token, 0 to 0.5.
    public var xtcThreshold: Double?
    /// What keeps the model from repeating itself.
    public var penalties: Penalties
    /// What is added to the chances (logits) of some tokens; minus infinity bans one.
    public var tokenBiases: [TokenID: Double]
    /// Asks for log-probabilities.
    public var logProbabilities: LogProbabilities?
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
    /// Whether the model is to think before it answers, in a conversation that does not say so itself.
    public var thinking: ThinkingMode
    /// Whether the answer is taken apart into text, reasoning and tool calls. If nil: if the prompt is a conversation.
    public var isParsed: Bool?

    public init(
        sampling: SamplingMode? = nil,
        temperature: Double? = nil,
        maximumResponseTokens: Int? = nil,
        minimumResponseTokens: Int? = nil,
        typicalProbability: Double? = nil,
        xtcProbability: Double? = nil,
        xtcThreshold: Double? = nil,
        penalties: Penalties = Penalties(),
        tokenBiases: [TokenID: Double] = [:],
        logProbabilities: LogProbabilities? = nil,
        stopStrings: [String] = [],
        stopTokens: [TokenID] = [],
        ignoresEndOfSequence: Bool = false,
        priority: Int = 0,
        timeout: Duration? = nil,
        cacheSalt: String = "",
        grammar: Grammar? = nil,
        thinking: ThinkingMode = .automatic,
        isParsed: Bool? = nil
    ) {
        self.sampling = sampling
        self.temperature = temperature
        self.maximumResponseTokens = maximumResponseTokens
        self.minimumResponseTokens = minimumResponseTokens
        self.typicalProbability = typicalProbability
        self.xtcProbability = xtcProbability
        self.xtcThreshold = xtcThreshold
        self.penalties = penalties
        self.tokenBiases = tokenBiases
        self.logProbabilities = logProbabilities
        self.stopStrings = stopStrings
        self.stopTokens = stopTokens
        self.ignoresEndOfSequence = ignoresEndOfSequence
        self.priority = priority
        self.timeout = timeout
        self.cacheSalt = cacheSalt
        self.grammar = grammar
        self.thinking = thinking
        self.isParsed = isParsed
    }
}

