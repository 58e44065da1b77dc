/// Something that happens once, and can be awaited before and after.
final class Signal: Sendable {
    private enum State {
        case waiting([CheckedContinuation<Void, Never>])
        case fired
    }

    private let state = Locked(State.waiting([]))

    /// It has happened. Never waits.
    func fire() {
        let waiters = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            defer { state = .fired }
            return if case .waiting(let waiters) = state { waiters } else { [] }
        }
        for waiter in waiters {
            waiter.resume()
        }
    }

    func wait() async {
        await withCheckedContinuation { waiter in
            let fired = state.withLock { state -> Bool in
                guard case .waiting(let waiters) = state else { return true }
                state = .waiting(waiters + [waiter])
                return false
            }
            if fired {
                waiter.resume()
            }
        }
    }
}
