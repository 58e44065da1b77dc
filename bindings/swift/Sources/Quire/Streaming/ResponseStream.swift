/// The events of one answer, as they come.
///
/// The request runs from the moment this was made. It is cancelled when the task that reads it is cancelled, and when
/// this and all its iterators are gone. It can be read once; several readers share the events.
public struct ResponseStream: AsyncSequence, Sendable {
    public typealias Element = GenerationEvent

    private let request: Result<Request, any Error>

    init(_ request: Result<Request, any Error>) {
        self.request = request
    }

    public struct Iterator: AsyncIteratorProtocol, Sendable {
        fileprivate let request: Result<Request, any Error>

        /// The next event; nil after ``GenerationEvent/finished(_:)``.
        ///
        /// Throws ``QuireError`` if the request was refused or failed, and `CancellationError` if the task is
        /// cancelled.
        public mutating func next() async throws -> GenerationEvent? {
            try await request.get().next()
        }
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(request: request)
    }

    /// Ends the answer at the next step; ``GenerationEvent/finished(_:)`` follows, with
    /// ``FinishReason/cancelled``. Never waits; harmless if it has ended.
    public func cancel() {
        try? request.get().cancel()
    }
}

extension ResponseStream {
    /// The stream that `body` starts, or one whose first event throws what `body` threw.
    static func starting(_ body: () throws -> ResponseStream) -> ResponseStream {
        do {
            return try body()
        } catch {
            return ResponseStream(.failure(error))
        }
    }

    func nextEvent() async throws -> GenerationEvent? {
        try await request.get().next()
    }

    /// The pieces of the answer's text alone, without empty ones.
    public var text: TextStream<ResponseStream> { TextStream(events: self) }
}

/// The text of an answer, as it comes.
public struct TextStream<Events: AsyncSequence & Sendable>: AsyncSequence, Sendable
where Events.Element == GenerationEvent, Events.AsyncIterator: Sendable {
    public typealias Element = String

    let events: Events

    public struct Iterator: AsyncIteratorProtocol, Sendable {
        fileprivate var events: Events.AsyncIterator

        public mutating func next() async throws -> String? {
            while let event = try await events.next() {
                if case .text(let delta) = event, !delta.text.isEmpty {
                    return delta.text
                }
            }
            return nil
        }
    }

    public func makeAsyncIterator() -> Iterator {
        Iterator(events: events.makeAsyncIterator())
    }
}
