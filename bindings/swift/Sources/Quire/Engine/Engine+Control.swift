import CQuire

extension Engine {
    /// Computes a prompt, so that answers to prompts that begin with it begin at once. Without a prompt: runs the model
    /// once, so that everything it takes is ready.
    public func prewarm(_ prompt: some PromptRepresentable = Prompt(tokens: [0])) async throws {
        _ = try await respond(to: prompt, options: GenerationOptions(maximumResponseTokens: 1))
    }

    /// Lets the step that is running end and starts no other until ``resume()``. An app that goes to the background
    /// must not use the GPU: when this returns, the device has nothing to do. Requests are accepted meanwhile, and wait.
    public func suspend() async throws {
        let core = core
        try await blocking {
            try core.withEngine { engine in try check { quire_engine_suspend(engine, $0) } }
        }
    }

    /// Goes on after ``suspend()``. Harmless if the engine is not suspended. Never waits.
    public func resume() throws {
        try core.withEngine { engine in try check { quire_engine_resume(engine, $0) } }
    }

    /// Cancels every request of the engine. Never waits.
    public func cancelAll() throws {
        try core.withEngine { engine in try check { quire_engine_cancel_all(engine, $0) } }
    }
}

extension Engine {
    /// Writes every cached prefix to a file, for an engine of the same model to load later, and returns the number of
    /// pages in it.
    @discardableResult
    public func saveCache(to path: String) async throws -> Int {
        try await cacheCall(path, quire_engine_save_cache)
    }

    /// Takes the prefixes of a file that ``saveCache(to:)`` wrote, as far as there is room for them, and returns the
    /// number of pages that came.
    @discardableResult
    public func loadCache(from path: String) async throws -> Int {
        try await cacheCall(path, quire_engine_load_cache)
    }

    private typealias CacheCall =
        @Sendable (
            OpaquePointer?, UnsafePointer<CChar>?, Int, UnsafeMutablePointer<UInt64>?,
            UnsafeMutablePointer<OpaquePointer?>?
        ) -> quire_status

    private func cacheCall(_ path: String, _ call: @escaping CacheCall) async throws -> Int {
        let core = core
        return try await blocking {
            try Arena.use { arena in
                var pages: UInt64 = 0
                let (bytes, count) = arena.copy(path)
                try core.withEngine { engine in try check { call(engine, bytes, count, &pages, $0) } }
                return Int(clamping: pages)
            }
        }
    }
}
