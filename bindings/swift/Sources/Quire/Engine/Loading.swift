import CQuire

/// How far a model has been loaded.
public struct LoadingProgress: Sendable, Hashable {
    /// From 0 to 1.
    public let fraction: Double
    /// What is being done, in a few words of English.
    public let stage: String
}

/// Observes a load for as long as it takes, and can stop it.
final class Loading: Sendable {
    private let isCancelled = Locked(false)
    private let progress: (@Sendable (LoadingProgress) -> Void)?

    init(progress: (@Sendable (LoadingProgress) -> Void)? = nil) {
        self.progress = progress
    }

    /// The load stops, with an error, at its next report.
    func cancel() {
        isCancelled.withLock { $0 = true }
    }

    /// Gets the reports of a load with these options. Must outlive the load, which does not retain it.
    func observe(_ options: inout quire_engine_options) {
        options.on_progress = { context, fraction, stage in
            guard let context, let stage else { return 0 }
            let loading = Unmanaged<Loading>.fromOpaque(context).takeUnretainedValue()
            loading.progress?(LoadingProgress(fraction: Double(fraction), stage: String(cString: stage)))
            return loading.isCancelled.withLock { $0 } ? 1 : 0
        }
        options.on_progress_data = Unmanaged.passUnretained(self).toOpaque()
    }
}
