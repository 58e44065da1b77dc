/// One accepted request, from the reader's side. Cancelled when the last reader lets go of it.
final class Request: Sendable {
    private let core: EngineCore
    private let id: UInt64
    let mailbox: Mailbox

    init(core: EngineCore, id: UInt64, mailbox: Mailbox) {
        self.core = core
        self.id = id
        self.mailbox = mailbox
    }

    deinit {
        cancel()
    }

    /// Asks the engine to end the request at the next step. Never waits; harmless if it has ended.
    func cancel() {
        if !mailbox.hasEnded {
            core.cancel(id)
        }
    }

    /// The next event, nil after the last one.
    ///
    /// Throws what the request failed with, or `CancellationError`, the request being cancelled, once the calling
    /// task is cancelled.
    func next() async throws -> GenerationEvent? {
        while true {
            if Task.isCancelled {
                cancel()
                throw CancellationError()
            }
            switch mailbox.take() {
            case .item(.event(let event)): return event
            case .item(.failure(let error)): throw error
            case .ended: return nil
            case .nothing(let seen): await change(seen: seen)
            }
        }
    }

    /// Waits until there may be something new, or the task is cancelled.
    private func change(seen: Int) async {
        await withTaskCancellationHandler {
            await withCheckedContinuation { mailbox.park($0, seen: seen) }
        } onCancel: {
            // The task's status lock is held here: nothing below waits for another thread.
            cancel()
            mailbox.wake()
        }
    }
}
