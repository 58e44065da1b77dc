import CQuire

/// What an engine is made of. What is nil is as the library has it by default.
public struct EngineOptions: Sendable, Hashable {
    /// How weights are held in memory.
    public enum WeightFormat: Sendable, Hashable {
        /// As stored on a GPU; on a CPU as 32-bit floats where these take at most a quarter of the memory.
        case automatic
        /// As the model's files store them.
        case asStored
        /// 32-bit floats.
        case float32
    }

    /// Most requests that run at the same time, 1 to 4096. 64 by default.
    public var maximumConcurrentRequests: Int?
    /// Most requests beyond those that may wait for their turn. 1024 by default; one that finds no place is refused
    /// with ``QuireError/Code/queueFull``.
    public var maximumWaitingRequests: Int?
    /// Longest prompt plus answer in tokens. What the model was made for by default.
    public var contextSize: Int?
    /// Most tokens computed in one step. 512 by default.
    public var maximumStepTokens: Int?
    /// Tokens in one page of the key-value cache, a power of two. 16 by default.
    public var pageTokens: Int?
    /// How to hold weights.
    public var weightFormat: WeightFormat
    /// Memory for the key-value cache in bytes. Chosen from what the device has left by default.
    public var cacheBytes: Int?
    /// Whether equal beginnings of prompts are computed once and shared.
    public var sharesPrefixes: Bool

    public init(
        maximumConcurrentRequests: Int? = nil,
        maximumWaitingRequests: Int? = nil,
        contextSize: Int? = nil,
        maximumStepTokens: Int? = nil,
        pageTokens: Int? = nil,
        weightFormat: WeightFormat = .automatic,
        cacheBytes: Int? = nil,
        sharesPrefixes: Bool = true
    ) {
        self.maximumConcurrentRequests = maximumConcurrentRequests
        self.maximumWaitingRequests = maximumWaitingRequests
        self.contextSize = contextSize
        self.maximumStepTokens = maximumStepTokens
        self.pageTokens = pageTokens
        self.weightFormat = weightFormat
        self.cacheBytes = cacheBytes
        self.sharesPrefixes = sharesPrefixes
    }
}

extension EngineOptions {
    /// The library's struct, with its defaults where these options say nothing.
    func raw() throws -> quire_engine_options {
        var raw = quire_engine_options()
        try check { quire_engine_options_init(&raw, MemoryLayout<quire_engine_options>.stride, $0) }
        if let maximumConcurrentRequests {
            raw.max_sequences = try fitting(maximumConcurrentRequests, "maximumConcurrentRequests")
        }
        if let maximumWaitingRequests {
            raw.max_waiting = try fitting(maximumWaitingRequests, "maximumWaitingRequests")
        }
        if let contextSize {
            raw.max_context = try fitting(contextSize, "contextSize")
        }
        if let maximumStepTokens {
            raw.max_step_tokens = try fitting(maximumStepTokens, "maximumStepTokens")
        }
        if let pageTokens {
            raw.block_tokens = try fitting(pageTokens, "pageTokens")
        }
        if let cacheBytes {
            raw.cache_bytes = try fitting(cacheBytes, "cacheBytes")
        }
        raw.weight_format =
            switch weightFormat {
            case .automatic: QUIRE_WEIGHTS_AUTO
            case .asStored: QUIRE_WEIGHTS_AS_STORED
            case .float32: QUIRE_WEIGHTS_FLOAT32
            }
        raw.disable_prefix_sharing = sharesPrefixes ? 0 : 1
        return raw
    }
}
