import CQuire

/// What a model is.
public struct ModelInfo: Sendable, Hashable {
    /// The architecture's name ("llama").
    public let architecture: String
    /// How the weights are stored ("4-bit affine, groups of 32").
    public let quantization: String
    /// What the model runs on ("CPU", or the GPU's name).
    public let device: String
    /// Tokens in the vocabulary.
    public let vocabularySize: Int
    /// Longest prompt plus answer in tokens.
    public let contextSize: Int
    public let layerCount: Int
    /// Size of the hidden state.
    public let hiddenSize: Int
    public let attentionHeadCount: Int
    public let keyValueHeadCount: Int
    /// Size of a head.
    public let headSize: Int
    /// Tokens in one page of the key-value cache.
    public let pageTokens: Int
    /// Pages in the cache.
    public let pageCount: Int
    /// Whether the model came with a tokenizer; without one it takes and gives token ids only.
    public let hasTokenizer: Bool
    /// Bytes of weights as held.
    public let weightBytes: Int
}

extension ModelInfo {
    init(of engine: OpaquePointer) throws {
        var raw = quire_model_info()
        raw.struct_size = MemoryLayout<quire_model_info>.stride
        try check { quire_engine_model_info(engine, &raw, $0) }
        self.init(
            architecture: String(cString: raw.architecture),
            quantization: String(cString: raw.quantization),
            device: String(cString: raw.device),
            vocabularySize: Int(raw.vocab_size),
            contextSize: Int(raw.max_context),
            layerCount: Int(raw.layers),
            hiddenSize: Int(raw.hidden_size),
            attentionHeadCount: Int(raw.heads),
            keyValueHeadCount: Int(raw.kv_heads),
            headSize: Int(raw.head_dim),
            pageTokens: Int(raw.block_tokens),
            pageCount: Int(raw.blocks),
            hasTokenizer: raw.has_tokenizer != 0,
            weightBytes: Int(clamping: raw.weight_bytes)
        )
    }
}
