import CQuire

#if canImport(os)
import os
#endif

/// What the library has to say about itself. Nothing is logged unless it is asked for.
public enum Log {
    /// How important a line is.
    public enum Level: Int32, Sendable, Hashable, CaseIterable, Comparable {
        /// Something failed.
        case error = 1
        /// Something is not as it should be; the library copes.
        case warning = 2
        /// What happens: models loaded, kernels chosen.
        case info = 3
        /// Detail for whoever debugs the library.
        case debug = 4

        /// More important comes first.
        public static func < (left: Level, right: Level) -> Bool { left.rawValue < right.rawValue }
    }

    /// Gives every line of the process, up to this level, to a handler, in place of the one before; nil for none. The
    /// handler is called from any thread, several at once, and must not call the library.
    public static func handle(upTo level: Level = .info, _ handler: (@Sendable (Level, String) -> Void)?) throws {
        guard let handler else {
            try check { quire_set_log_callback(nil, nil, nil, level.rawValue, $0) }
            return
        }
        let context = Unmanaged.passRetained(Handler(handler)).toOpaque()
        // The library calls the finalizer also where it refuses.
        try check { error in
            quire_set_log_callback(
                { context, level, message, count in
                    guard let context, let level = Level(rawValue: level) else { return }
                    let handler = Unmanaged<Handler>.fromOpaque(context).takeUnretainedValue()
                    handler.call(level, String(utf8: message, count: count))
                },
                context,
                { context in
                    guard let context else { return }
                    Unmanaged<Handler>.fromOpaque(context).release()
                },
                level.rawValue,
                error
            )
        }
    }

    private final class Handler: Sendable {
        let call: @Sendable (Level, String) -> Void

        init(_ call: @escaping @Sendable (Level, String) -> Void) {
            self.call = call
        }
    }
}

#if canImport(os)
extension Log {
    /// Writes every line of the process, up to this level, to the system's log.
    public static func write(to logger: os.Logger, upTo level: Level = .info) throws {
        try handle(upTo: level) { level, message in
            switch level {
            case .error: logger.error("\(message, privacy: .public)")
            case .warning: logger.warning("\(message, privacy: .public)")
            case .info: logger.info("\(message, privacy: .public)")
            case .debug: logger.debug("\(message, privacy: .public)")
            }
        }
    }
}
#endif
