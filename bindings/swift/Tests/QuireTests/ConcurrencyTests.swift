import Testing

@testable import Quire

/// The contract of the streams: what cancels them, what keeps them, and that nothing waits where it must not.
@Suite struct ConcurrencyTests {
    /// A model whose answers last long enough to be caught in the middle.
    private static func slow() throws -> ModelCopy {
        try ModelCopy(mock: #"{"step_micros": 500}"#)
    }

    private static let endless = GenerationOptions.tokens(8000)

    @Test func manyStreamsGiveWhatEachGivesAlone() async throws {
        let engine = try await Engine(on: ModelCopy())
        try await expectManyStreams(engine, streams: 16, tokens: 200)
        try await expectAtRest(engine)
    }

    @Test func racingCancelsLeaveNothingBehind() async throws {
        let engine = try await Engine(on: Self.slow())
        try await expectRacingCancels(engine, count: 200, tokens: 400)
    }

    @Test func aTaskCancelledBeforeItReads() async throws {
        let engine = try await Engine(on: Self.slow())
        let stream = engine.stream(somePrompt, options: Self.endless)
        let task = Task {
            while !Task.isCancelled {
                await Task.yield()
            }
            return try await streamed(stream)
        }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        try await eventually("the request was cancelled") { engine.statistics.cancelledRequests == 1 }
        try await expectAtRest(engine)
    }

    @Test func aTaskCancelledWhileItReads() async throws {
        let engine = try await Engine(on: Self.slow())
        let (reached, reach) = AsyncStream.makeStream(of: Void.self)
        let task = Task {
            for try await _ in engine.stream(somePrompt, options: Self.endless) {
                reach.yield()
            }
        }
        for await _ in reached { break }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        try await eventually("the request was cancelled") { engine.statistics.cancelledRequests == 1 }
        try await expectAtRest(engine)
        try await expectWorks(engine)
    }

    @Test func aTaskCancelledWhileItWaits() async throws {
        let engine = try await Engine(on: Self.slow())
        try await engine.suspend()
        let stream = engine.stream(somePrompt, options: Self.endless)
        // Nothing comes, so the reader is waiting or about to.
        let task = Task { try await streamed(stream) }
        try await Task.sleep(for: .milliseconds(20))
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        // A suspended engine takes commands.
        try await expectAtRest(engine)
        try engine.resume()
        try await expectWorks(engine)
    }

    @Test func aTaskCancelledAfterItRead() async throws {
        let engine = try await Engine(on: ModelCopy())
        let task = Task { try await streamed(engine.stream(somePrompt, options: .tokens(9))) }
        let answer = try await task.value
        task.cancel()
        #expect(answer.tokens.count == 9)
        #expect(engine.statistics.cancelledRequests == 0)
        try await expectWorks(engine)
    }

    @Test func aWholeAnswerIsNotTakenFromACancelledOne() async throws {
        let engine = try await Engine(on: Self.slow())
        let task = Task { try await engine.respond(to: somePrompt, options: Self.endless) }
        try await eventually("it runs") { engine.statistics.runningRequests == 1 }
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        let stream = engine.stream(somePrompt, options: Self.endless)
        stream.cancel()
        await #expect(throws: CancellationError.self) { try await stream.collect() }
        try await expectAtRest(engine)
    }

    @Test func aStreamDroppedUnread() async throws {
        let engine = try await Engine(on: Self.slow())
        for _ in 0..<5 {
            _ = engine.stream(somePrompt, options: Self.endless)
        }
        try await eventually("all were cancelled") { engine.statistics.cancelledRequests == 5 }
        try await expectAtRest(engine)
    }

    @Test func aStreamDroppedInTheMiddle() async throws {
        let engine = try await Engine(on: Self.slow())
        for try await event in engine.stream(somePrompt, options: Self.endless) {
            guard case .text = event else { continue }
            break
        }
        try await eventually("it was cancelled") { engine.statistics.cancelledRequests == 1 }
        try await expectAtRest(engine)
    }

    @Test func aStreamThatIsKeptGoesOn() async throws {
        let engine = try await Engine(on: ModelCopy())
        let stream = engine.stream(somePrompt, options: .tokens(600))
        var tokens = 0
        for try await event in stream {
            guard case .text(let delta) = event else { continue }
            tokens += delta.tokens.count
            break
        }
        tokens += try await streamed(stream).tokens.count
        #expect(tokens == 600)
    }

    @Test func cancellingAStreamTellsHowFarItCame() async throws {
        let engine = try await Engine(on: Self.slow())
        let stream = engine.stream(somePrompt, options: Self.endless)
        var tokens = 0
        var last: Completion?
        for try await event in stream {
            switch event {
            case .text(let delta):
                tokens += delta.tokens.count
                stream.cancel()
            case .finished(let completion):
                last = completion
            case .reasoning, .toolCall:
                Issue.record("\(event)")
            }
        }
        #expect(last?.finishReason == .cancelled)
        #expect(last?.usage.generatedTokens == tokens)
        stream.cancel()
    }

    @Test func twoReadersShareTheEvents() async throws {
        let engine = try await Engine(on: Self.slow())
        let stream = engine.stream(somePrompt, options: .tokens(100))
        let read: @Sendable () async throws -> (tokens: Int, ends: Int) = {
            var (tokens, ends) = (0, 0)
            for try await event in stream {
                switch event {
                case .text(let delta): tokens += delta.tokens.count
                case .finished: ends += 1
                case .reasoning, .toolCall: break
                }
            }
            return (tokens, ends)
        }
        async let first = read()
        async let second = read()
        let (one, other) = try await (first, second)
        #expect(one.tokens + other.tokens == 100)
        #expect(one.ends + other.ends == 1)
    }

    @Test func streamsKeepTheirEngine() async throws {
        var engine: Engine? = try await Engine(on: Self.slow())
        weak var core = engine?.core
        let stream = engine?.stream(somePrompt, options: .tokens(100))
        engine = nil
        #expect(core != nil)
        #expect(try await stream?.collect().tokens.count == 100)
        withExtendedLifetime(stream) {}
    }

    @Test func theEngineGoesWithItsLastStream() async throws {
        var router: EventRouter? = EventRouter()
        weak var observed = router
        let model = try Self.slow()
        do {
            let core = try EngineCore(model: model.path, options: EngineOptions(), router: #require(router))
            router = nil
            let request = try core.submit { raw, arena in
                somePrompt.fill(&raw, arena, thinking: .automatic)
                try Self.endless.fill(&raw, arena)
            }
            _ = try await request.next()
            #expect(observed != nil)
        }
        // The library's finalizer releases the router: after the last event, and only then.
        try await eventually("the router was released") { observed == nil }
    }

    @Test func theContextIsReleasedOnce() async throws {
        var router = EventRouter()
        #expect(isKnownUniquelyReferenced(&router))
        let model = try ModelCopy()
        for path in [model.path, "/nowhere/at/all"] {
            do {
                let core = try EngineCore(model: path, options: EngineOptions(), router: router)
                #expect(!isKnownUniquelyReferenced(&router))
                try await core.shutdown(mode: 2, deadline: 0)
            } catch let error as QuireError {
                #expect(error.code == .modelNotFound)
            }
            #expect(isKnownUniquelyReferenced(&router))
        }
    }

    @Test func shutdownEndsStreams() async throws {
        let engine = try await Engine(on: Self.slow())
        let streams = (0..<5).map { _ in engine.stream(somePrompt, options: Self.endless) }
        try await eventually("they run") { engine.statistics.runningRequests == 5 }
        async let first: Void = engine.shutdown()
        async let second: Void = engine.shutdown(.draining(within: .seconds(60)))
        _ = try await (first, second)
        for stream in streams {
            #expect(try await streamed(stream).finishReason == .cancelled)
        }
        #expect(engine.statistics.cancelledRequests == 5)
        #expect(engine.modelInfo.vocabularySize == 258)
        await expectError(.shutDown, naming: "shut down") { try await expectWorks(engine) }
        try await engine.shutdown()
    }

    @Test func shutdownLetsStreamsFinish() async throws {
        let engine = try await Engine(on: Self.slow())
        let stream = engine.stream(somePrompt, options: .tokens(40))
        try await engine.shutdown(.draining(within: nil))
        #expect(try await stream.collect().tokens.count == 40)
    }

    @Test @MainActor func streamsAreReadOnTheMainActor() async throws {
        let engine = try await Engine(on: ModelCopy())
        var text = ""
        for try await piece in engine.stream(somePrompt, options: .tokens(30)).text {
            text += piece
        }
        #expect(!text.isEmpty)
    }
}

/// So many streams at once, each compared with the same request alone.
func expectManyStreams(_ engine: Engine, streams: Int, tokens: Int) async throws {
    let options = GenerationOptions.tokens(tokens)
    var alone: [Response<String>] = []
    for prompt in prompts(streams) {
        alone.append(try await engine.respond(to: .tokens(prompt), options: options))
    }
    try await withThrowingTaskGroup(of: (Int, Response<String>).self) { group in
        for (index, prompt) in prompts(streams).enumerated() {
            group.addTask { (index, try await streamed(engine.stream(.tokens(prompt), options: options))) }
        }
        for try await (index, answer) in group {
            #expect(answer.tokens == alone[index].tokens)
            #expect(answer.text == alone[index].text)
        }
    }
}

/// Requests that are cancelled in every way there is, at any moment.
func expectRacingCancels(_ engine: Engine, count: Int, tokens: Int) async throws {
    let before = engine.statistics.acceptedRequests
    await withTaskGroup(of: Void.self) { group in
        for index in 0..<count {
            group.addTask {
                let stream = engine.stream(somePrompt, options: .tokens(1 + index % tokens))
                let reader = Task {
                    for try await event in stream {
                        if index % 4 == 3, case .text = event {
                            break
                        }
                    }
                }
                try? await Task.sleep(for: .microseconds(37 * (index % 50)))
                switch index % 4 {
                case 0: reader.cancel()
                case 1: stream.cancel()
                case 2:
                    async let one: Void = stream.cancel()
                    async let other: Void = reader.cancel()
                    _ = await (one, other)
                default: break
                }
                _ = await reader.result
            }
        }
    }
    try await expectAtRest(engine)
    #expect(engine.statistics.acceptedRequests == before + count)
    #expect(engine.statistics.failedRequests == 0)
    try await expectWorks(engine)
}
