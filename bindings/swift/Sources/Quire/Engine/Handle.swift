import CQuire
import Dispatch

/// The C engine, owned: it lives as long as anybody holds this.
///
/// Releasing an engine waits for its threads, which must not happen where the last reference happens to go: in a
/// deinit, a cancellation handler, or on a thread that runs tasks. So it happens on a thread of Dispatch's.
final class Handle: @unchecked Sendable {
    // Every function of the library may be called from any thread; release is last because it is in the deinit.
    let pointer: OpaquePointer
    /// Fires when the engine's threads have ended and its memory is free.
    let released = Signal()

    init(_ pointer: OpaquePointer) {
        self.pointer = pointer
    }

    deinit {
        let released = released
        let engine = Transferred(pointer: pointer)
        DispatchQueue.global().async {
            // Its status has nowhere to go; the handle is gone whatever it is.
            _ = quire_engine_release(engine.pointer, nil)
            released.fire()
        }
    }

    private struct Transferred: @unchecked Sendable {
        let pointer: OpaquePointer
    }
}
