import CQuire
import Testing

@testable import Quire

/// Waits until something is so; an issue if it is not within a time that nothing here takes.
func eventually(
    _ what: Comment, location: SourceLocation = #_sourceLocation, _ isSo: () throws -> Bool
) async throws {
    let deadline = ContinuousClock.now + .seconds(120)
    while try !isSo() {
        guard ContinuousClock.now < deadline else {
            Issue.record("never came to be: \(what)", sourceLocation: location)
            return
        }
        try await Task.sleep(for: .milliseconds(1))
    }
}

/// Every request has ended, and its pages are free or kept for reuse.
func expectAtRest(_ engine: Engine, location: SourceLocation = #_sourceLocation) async throws {
    try await eventually("every request has ended", location: location) {
        let now = engine.statistics
        return now.acceptedRequests == now.finishedRequests + now.cancelledRequests + now.failedRequests
    }
    let now = engine.statistics
    #expect(now.usedPages == 0, sourceLocation: location)
    #expect(now.freePages + now.cachedPages == now.totalPages, sourceLocation: location)
    try await eventually("every mailbox is closed", location: location) { engine.core.router.openCount == 0 }
}

/// A request comes out whole.
func expectWorks(_ engine: Engine, location: SourceLocation = #_sourceLocation) async throws {
    let answer = try await engine.respond(to: somePrompt, options: .tokens(7))
    #expect(answer.tokens.count == 7, sourceLocation: location)
    #expect(answer.finishReason == .length, sourceLocation: location)
}

/// The refusal or failure that `body` ends in, with a message that names what is wrong.
func expectError(
    _ code: QuireError.Code, naming name: String, location: SourceLocation = #_sourceLocation,
    _ body: () async throws -> Void
) async {
    do {
        try await body()
        Issue.record("nothing was thrown; want \(code) naming \(name)", sourceLocation: location)
    } catch let error as QuireError {
        #expect(error.code == code, "\(error)", sourceLocation: location)
        #expect(error.message.contains(name), "\(error)", sourceLocation: location)
    } catch {
        Issue.record("\(error) was thrown; want \(code) naming \(name)", sourceLocation: location)
    }
}

extension CAnswer {
    /// The same from Swift.
    init(_ answer: Response<String>) {
        text = answer.text
        tokens = answer.tokens
        generatedTokens = UInt32(answer.usage.generatedTokens)
        finishReason =
            switch answer.finishReason {
            case .endOfSequence: QUIRE_FINISH_END_OF_SEQUENCE
            case .length: QUIRE_FINISH_LENGTH
            default: QUIRE_FINISH_NONE
            }
    }

    init() {}
}

/// A stream's answer from every event that it gives.
func streamed(_ stream: ResponseStream) async throws -> Response<String> {
    var builder = ResponseBuilder()
    var completion: Completion?
    for try await event in stream {
        #expect(completion == nil, "an event after the last one: \(event)")
        builder.add(event)
        if case .finished(let last) = event {
            completion = last
        }
    }
    return builder.response(try #require(completion))
}

/// Prompts that differ from the first token on.
func prompts(_ count: Int) -> [[TokenID]] {
    (0..<count).map { index in (0..<(5 + index)).map { TokenID(10 + index + 3 * $0) } }
}

/// A prompt of so many tokens.
func longPrompt(_ count: TokenID) -> Prompt {
    Prompt(tokens: Array(0..<count))
}
