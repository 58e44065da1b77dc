import CQuire

/// What the C API answers, by itself: an engine, a request, events taken one by one. What Swift gives is compared with
/// it.
struct CAnswer: Equatable {
    var text = ""
    var tokens: [UInt32] = []
    var finishReason: quire_finish_reason = QUIRE_FINISH_NONE
    var generatedTokens: UInt32 = 0

    /// Runs `configure`d requests one after another on an engine of their own.
    static func answers(
        model: String, to prompts: [[UInt32]], configure: (inout quire_request_options) -> Void
    ) throws -> [CAnswer] {
        var options = quire_engine_options()
        try call { quire_engine_options_init(&options, MemoryLayout<quire_engine_options>.stride, $0) }
        var engine: OpaquePointer?
        var model = model
        try model.withUTF8 { utf8 in
            try utf8.withMemoryRebound(to: CChar.self) { bytes in
                (options.model, options.model_len) = (bytes.baseAddress, bytes.count)
                try call { quire_engine_create(&options, &engine, $0) }
            }
        }
        defer { quire_engine_release(engine, nil) }
        return try prompts.map { try CAnswer(engine, $0, configure) }
    }

    private init(
        _ engine: OpaquePointer?, _ prompt: [UInt32], _ configure: (inout quire_request_options) -> Void
    ) throws {
        var request = quire_request_options()
        try call { quire_request_options_init(&request, MemoryLayout<quire_request_options>.stride, $0) }
        configure(&request)
        var id: UInt64 = 0
        try prompt.withUnsafeBufferPointer { tokens in
            (request.prompt_tokens, request.prompt_token_count) = (tokens.baseAddress, tokens.count)
            try call { quire_engine_submit(engine, &request, &id, $0) }
        }
        while finishReason == QUIRE_FINISH_NONE {
            var event: UnsafeMutablePointer<quire_event>?
            try call { quire_engine_wait(engine, -1, &event, $0) }
            defer { quire_event_free(event) }
            guard let event = event?.pointee, event.status == QUIRE_OK else { throw Failure(status: QUIRE_INTERNAL) }
            text += String(decoding: UnsafeRawBufferPointer(start: event.text, count: event.text_len), as: UTF8.self)
            tokens += UnsafeBufferPointer(start: event.tokens, count: event.token_count)
            finishReason = event.finish_reason
            generatedTokens = event.generated_tokens
        }
    }

    struct Failure: Error {
        let status: quire_status
    }
}

private func call(_ body: (UnsafeMutablePointer<OpaquePointer?>) -> quire_status) throws {
    var error: OpaquePointer?
    let status = body(&error)
    defer { quire_error_free(error) }
    if status != QUIRE_OK {
        throw CAnswer.Failure(status: status)
    }
}
