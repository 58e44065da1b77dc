import CQuire

/// A model, its cache, and the thread that runs it.
///
/// Any number of streams run at the same time on one engine; equal beginnings of their prompts are computed once.
/// Streams keep their engine alive: it goes when the last of them and the engine itself are gone, and takes its time
/// for that on a thread of its own. Call ``shutdown(_:)`` to wait until it has gone.
public final class Engine: Sendable {
    let core: EngineCore

    /// Loads a model: a directory (config.json, safetensors, tokenizer.json), a GGUF file, or a name "org/name" in the
    /// local Hugging Face cache.
    ///
    /// `progress` is called on another thread. Cancelling the task stops the load.
    public init(
        model: String,
        options: EngineOptions = EngineOptions(),
        progress: (@Sendable (LoadingProgress) -> Void)? = nil
    ) async throws {
        try Task.checkCancellation()
        let loading = Loading(progress: progress)
        do {
            core = try await withTaskCancellationHandler {
                try await blocking { try EngineCore(model: model, options: options, loading: loading) }
            } onCancel: {
                loading.cancel()
            }
        } catch let error as QuireError where error.code == .aborted {
            throw CancellationError()
        }
    }

    /// What the model is.
    public var modelInfo: ModelInfo { core.info }

    /// What the engine does and has done. After it has been shut down: what it had done until then.
    public var statistics: Statistics { core.statistics() }
}

extension Engine {
    /// What becomes of the requests an engine still has when it is shut down.
    public enum ShutdownMode: Sendable, Hashable {
        /// They are cancelled.
        case cancelling
        /// They finish, as far as they can within this time; nil: whatever time they take.
        case draining(within: Duration?)
    }

    /// Ends the engine: when this returns, its threads have ended and its memory is free. Streams still get their
    /// last events. May be called again; the stricter mode then holds.
    public func shutdown(_ mode: ShutdownMode = .cancelling) async throws {
        switch mode {
        case .cancelling:
            try await core.shutdown(mode: QUIRE_SHUTDOWN_CANCEL, deadline: 0)
        case .draining(within: let time):
            let milliseconds = time.map { max(0, $0 / .milliseconds(1)) } ?? -1
            try await core.shutdown(mode: QUIRE_SHUTDOWN_DRAIN, deadline: Int64(exactly: milliseconds.rounded()) ?? .max)
        }
    }
}

extension Engine {
    /// Starts an answer and returns its events. Never waits for the model.
    ///
    /// The prompt is tokenized on the calling thread. If the request is refused, reading the first event throws.
    public func stream(
        _ prompt: some PromptRepresentable,
        options: GenerationOptions = GenerationOptions()
    ) -> ResponseStream {
        ResponseStream(
            Result {
                try core.submit { raw, arena in
                    prompt.promptRepresentation.fill(&raw, arena, thinking: options.thinking)
                    try options.fill(&raw, arena)
                }
            }
        )
    }
}
