import CQuire

/// The events of one request on their way from the library's dispatcher thread to whoever reads them.
///
/// - Delivering never waits; it costs a lock that is held for a few instructions.
/// - Pieces of text that a slow reader finds together come to it as one, so it catches up at once.
/// - Any number of tasks may read; each item goes to one of them.
final class Mailbox: Sendable {
    /// What was found.
    enum Taken {
        case item(Item)
        /// Nothing now. To be given to ``park(_:seen:)``.
        case nothing(seen: Int)
        /// Nothing any more.
        case ended
    }

    private struct State {
        var items: [Item] = []
        /// Items before this one were taken.
        var head = 0
        /// Whether the terminal item came.
        var ended = false
        /// Grows with everything a reader may have waited for.
        var changes = 0
        var parked: [CheckedContinuation<Void, Never>] = []

        /// The readers to resume after a change.
        mutating func wake() -> [CheckedContinuation<Void, Never>] {
            changes += 1
            defer { parked.removeAll(keepingCapacity: true) }
            return parked
        }

        /// The next item, with those that continue it.
        mutating func pop() -> Item? {
            guard head < items.count else { return nil }
            var end = head + 1
            while end < items.count, items[end].continues(items[head]) {
                end += 1
            }
            let item = Item(joining: items[head..<end])
            head = end
            if head == items.count {
                items.removeAll(keepingCapacity: true)
                head = 0
            }
            return item
        }
    }

    private let state = Locked(State())

    /// Adds an item and wakes the readers.
    func deliver(_ item: Item) {
        let parked = state.withLock { state -> [CheckedContinuation<Void, Never>] in
            state.items.append(item)
            state.ended = state.ended || item.isTerminal
            return state.wake()
        }
        parked.forEach { $0.resume() }
    }

    /// Lets parked readers look again, whatever they find.
    func wake() {
        state.withLock { $0.wake() }.forEach { $0.resume() }
    }

    /// The next item, if there is one.
    func take() -> Taken {
        state.withLock { state in
            if let item = state.pop() {
                return .item(item)
            }
            return state.ended ? .ended : .nothing(seen: state.changes)
        }
    }

    /// Resumes a reader at the next change after those it has seen.
    func park(_ reader: CheckedContinuation<Void, Never>, seen: Int) {
        let isLate = state.withLock { state in
            if state.changes == seen {
                state.parked.append(reader)
            }
            return state.changes != seen
        }
        if isLate {
            reader.resume()
        }
    }

    /// Whether the terminal event came.
    var hasEnded: Bool { state.withLock { $0.ended } }
}

extension Mailbox {
    /// What a reader gets: an event, or the failure of the request.
    enum Item: Sendable {
        case event(GenerationEvent)
        case failure(QuireError)
    }
}

extension Mailbox.Item {
    /// Whether this event is its request's last.
    static func isTerminal(_ event: borrowing quire_event) -> Bool {
        switch event.kind {
        case QUIRE_EVENT_FINISHED, QUIRE_EVENT_CANCELLED, QUIRE_EVENT_FAILED: true
        default: false
        }
    }

    /// Nothing for an event of a kind that only a newer library has.
    init?(_ event: borrowing quire_event) {
        if event.kind == QUIRE_EVENT_FAILED {
            let code = QuireError.Code(status: event.status)
            self = .failure(QuireError(code, String(cString: event.message)))
        } else if let event = GenerationEvent(event) {
            self = .event(event)
        } else {
            return nil
        }
    }

    var isTerminal: Bool {
        switch self {
        case .event(.finished), .failure: true
        case .event: false
        }
    }

    /// Whether the two can be one.
    fileprivate func continues(_ item: Self) -> Bool {
        switch (item, self) {
        case (.event(.text), .event(.text)), (.event(.reasoning), .event(.reasoning)): true
        default: false
        }
    }

    /// Items that continue each other, as one. There is at least one.
    fileprivate init(joining items: ArraySlice<Self>) {
        self = items[items.startIndex]
        guard items.count > 1, case .event(let event) = self else { return }
        let deltas = items.compactMap { item in
            switch item {
            case .event(.text(let delta)), .event(.reasoning(let delta)): delta
            default: nil
            }
        }
        switch event {
        case .text: self = .event(.text(Delta(joining: deltas)))
        case .reasoning: self = .event(.reasoning(Delta(joining: deltas)))
        case .toolCall, .finished: break
        }
    }
}
