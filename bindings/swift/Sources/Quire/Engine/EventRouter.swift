import CQuire

/// Brings each event of an engine to the mailbox of its request. This is the user data of the engine's callback:
/// retained once when the engine is made, and released once, by the library's finalizer after the last event.
///
/// A request's tag is its mailbox's number here, given before the request is submitted, so that the first event
/// cannot come too early. The callback runs on the library's dispatcher thread and does nothing that waits.
final class EventRouter: Sendable {
    private struct State {
        var last: UInt = 0
        var mailboxes: [UInt: Mailbox] = [:]
    }

    private let state = Locked(State())

    /// Gives a mailbox its tag.
    func open(_ mailbox: Mailbox) -> UInt {
        state.withLock { state in
            state.last += 1
            state.mailboxes[state.last] = mailbox
            return state.last
        }
    }

    /// No event will come for this tag: its request was refused.
    func close(_ tag: UInt) {
        state.withLock { $0.mailboxes[tag] = nil }
    }

    /// Mailboxes whose terminal event has not come.
    var openCount: Int { state.withLock { $0.mailboxes.count } }

    func deliver(_ event: borrowing quire_event) {
        let tag = UInt(bitPattern: event.tag)
        let isTerminal = Mailbox.Item.isTerminal(event)
        let mailbox = state.withLock { state in
            isTerminal ? state.mailboxes.removeValue(forKey: tag) : state.mailboxes[tag]
        }
        guard let mailbox, let item = Mailbox.Item(event) else { return }
        mailbox.deliver(item)
    }
}

extension EventRouter {
    /// Makes this router the receiver of an engine's events. Create calls the finalizer also where it fails.
    func receive(from options: inout quire_engine_options) {
        options.on_event = { context, event in
            guard let context, let event else { return }
            Unmanaged<EventRouter>.fromOpaque(context).takeUnretainedValue().deliver(event.pointee)
        }
        options.on_event_data = Unmanaged.passRetained(self).toOpaque()
        options.release_on_event_data = { context in
            guard let context else { return }
            Unmanaged<EventRouter>.fromOpaque(context).release()
        }
    }
}
