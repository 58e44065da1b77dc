import CQuire

/// What an engine and its streams share. The C engine lives until they are all gone, or it is shut down.
final class EngineCore: Sendable {
    let info: ModelInfo
    let router: EventRouter

    private enum State {
        case open(Handle)
        /// Being released; what it had done until then.
        case closed(Statistics, released: Signal)
    }

    private let state: Locked<State>

    /// Blocks while the model loads.
    init(
        model: String, options: EngineOptions, loading: Loading = Loading(), router: EventRouter = EventRouter()
    ) throws {
        guard quire_abi_version() == QUIRE_ABI_VERSION else {
            let version = String(cString: quire_version())
            throw QuireError(
                .invalidStructSize,
                "libquire \(version) has ABI \(quire_abi_version()), this package needs \(QUIRE_ABI_VERSION)"
            )
        }
        var raw = try options.raw()
        var created: OpaquePointer?
        try Arena.use { arena in
            (raw.model, raw.model_len) = arena.copy(model)
            loading.observe(&raw)
            router.receive(from: &raw)
            try withExtendedLifetime(loading) {
                try check { quire_engine_create(&raw, &created, $0) }
            }
        }
        guard let created else { throw QuireError(.internal, "quire_engine_create gave no engine") }
        let handle = Handle(created)
        self.router = router
        info = try ModelInfo(of: created)
        state = Locked(.open(handle))
    }

    /// Calls into the library with an engine that stays until the call is over.
    func withEngine<Result>(_ call: (OpaquePointer) throws -> Result) throws -> Result {
        guard case .open(let handle) = state.withLock({ $0 }) else {
            throw QuireError(.shutDown, "the engine has been shut down")
        }
        return try withExtendedLifetime(handle) { try call(handle.pointer) }
    }

    /// Submits a request, filled in by `fill`.
    func submit(_ fill: (inout quire_request_options, Arena) throws -> Void) throws -> Request {
        let mailbox = Mailbox()
        let tag = router.open(mailbox)
        do {
            var raw = quire_request_options()
            try check { quire_request_options_init(&raw, MemoryLayout<quire_request_options>.stride, $0) }
            var id: UInt64 = 0
            try Arena.use { arena in
                try fill(&raw, arena)
                raw.tag = UnsafeMutableRawPointer(bitPattern: tag)
                try withEngine { engine in
                    try check { quire_engine_submit(engine, &raw, &id, $0) }
                }
            }
            return Request(core: self, id: id, mailbox: mailbox)
        } catch {
            router.close(tag)
            throw error
        }
    }

    /// Never waits. A request that has ended meanwhile, with its engine or before, is no error.
    func cancel(_ request: UInt64) {
        try? withEngine { engine in _ = quire_engine_cancel(engine, request, nil) }
    }

    func statistics() -> Statistics {
        switch state.withLock({ $0 }) {
        case .open(let handle):
            return withExtendedLifetime(handle) {
                do {
                    return try Statistics(of: handle.pointer)
                } catch {
                    // It fails only for arguments that are wrong, and these are constants.
                    preconditionFailure("quire_engine_statistics: \(error)")
                }
            }
        case .closed(let statistics, _):
            return statistics
        }
    }

    /// Shuts the engine down and waits until its threads have ended and its memory is free.
    func shutdown(mode: quire_shutdown_mode, deadline: Int64) async throws {
        try await end(mode: mode, deadline: deadline).wait()
    }

    /// Shuts the engine down and lets go of it; what is returned fires when it is gone.
    private func end(mode: quire_shutdown_mode, deadline: Int64) async throws -> Signal {
        switch state.withLock({ $0 }) {
        case .closed(_, let released):
            return released
        case .open(let handle):
            let last = try await blocking {
                try check { quire_engine_shutdown(handle.pointer, mode, deadline, $0) }
                return try Statistics(of: handle.pointer)
            }
            state.withLock { state in
                if case .open = state {
                    state = .closed(last, released: handle.released)
                }
            }
            return handle.released
        }
    }
}
