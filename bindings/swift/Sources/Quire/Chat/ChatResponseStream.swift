/// The events of one answer of a ``ChatSession``, as they come.
///
/// All the requests it takes, where tools are called, come as one: each event but the last one's
/// ``GenerationEvent/finished(_:)`` goes through, and that has the sums. Cancelled and dropped like a
/// ``ResponseStream``.
public struct ChatResponseStream: AsyncSequence, Sendable {
    public typealias Element = GenerationEvent

    let turn: ChatTurn

    public struct Iterator: AsyncIteratorProtocol, Sendable {
        fileprivate let turn: ChatTurn

        public mutating func next() async throws -> GenerationEvent? {
            try await turn.next()
        }
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(turn: turn)
    }

    /// Ends the answer at the next step; ``GenerationEvent/finished(_:)`` follows, and what there is of the answer
    /// is recorded. Never waits.
    public func cancel() {
        turn.cancel()
    }
}

extension ChatResponseStream {
    /// The pieces of the answer's text alone, without empty ones.
    public var text: TextStream<ChatResponseStream> { TextStream(events: self) }
}
