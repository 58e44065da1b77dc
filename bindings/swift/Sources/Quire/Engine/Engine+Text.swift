import CQuire

extension Engine {
    /// The tokens of a text; with `addingSpecialTokens` also what the model wants around one, such as a token that
    /// begins it.
    public func tokens(of text: String, addingSpecialTokens: Bool = false) throws -> [TokenID] {
        try Arena.use { arena in
            let (bytes, count) = arena.copy(text)
            return try filling { tokens, capacity, size, engine, error in
                quire_engine_tokenize(engine, bytes, count, addingSpecialTokens ? 1 : 0, tokens, capacity, size, error)
            }
        }
    }

    /// The text of tokens. Bytes that are not UTF-8 come as U+FFFD.
    public func text(of tokens: [TokenID], skippingSpecialTokens: Bool = false) throws -> String {
        guard !tokens.isEmpty else { return "" }
        return try Arena.use { arena in
            let (copy, count) = (arena.copy(tokens), tokens.count)
            return try string { text, capacity, size, engine, error in
                quire_engine_detokenize(engine, copy, count, skippingSpecialTokens ? 1 : 0, text, capacity, size, error)
            }
        }
    }

    /// The text that the model's chat template makes of a conversation: what a request with this prompt runs on.
    public func text(of prompt: Prompt) throws -> String {
        switch prompt.content {
        case .text(let text): return text
        case .tokens(let tokens): return try text(of: tokens)
        case .chat(let chat):
            return try Arena.use { arena in
                var raw = chat.raw(arena)
                return try string { text, capacity, size, engine, error in
                    quire_engine_render_chat(engine, &raw, text, capacity, size, error)
                }
            }
        }
    }

    private typealias Fill<Element> = (
        UnsafeMutablePointer<Element>?, Int, UnsafeMutablePointer<Int>, OpaquePointer,
        UnsafeMutablePointer<OpaquePointer?>
    ) -> quire_status

    /// Calls once to learn a size, and again to fill an array of it.
    private func filling<Element: BitwiseCopyable>(_ call: Fill<Element>) throws -> [Element] {
        try core.withEngine { engine in
            var size = 0
            try check { call(nil, 0, &size, engine, $0) }
            return try Array(unsafeUninitializedCapacity: size) { buffer, filled in
                try check { call(buffer.baseAddress, size, &filled, engine, $0) }
            }
        }
    }

    private func string(_ call: Fill<CChar>) throws -> String {
        String(decoding: try filling(call).lazy.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }
}
