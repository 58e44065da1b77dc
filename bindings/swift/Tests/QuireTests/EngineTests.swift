import Foundation
import Testing

@testable import Quire

/// Engines from loading to shutdown, and what they tell.
@Suite struct EngineTests {
    @Test func loadingTellsHowFarItIs() async throws {
        let seen = Locked<[LoadingProgress]>([])
        let model = try ModelCopy()
        let engine = try await Engine(model: model.path) { progress in seen.withLock { $0.append(progress) } }
        let reports = seen.withLock { $0 }
        #expect(reports.count >= 2)
        #expect(reports.map(\.fraction) == reports.map(\.fraction).sorted())
        #expect(reports.last?.fraction == 1)
        #expect(reports.allSatisfy { !$0.stage.isEmpty })
        try await expectWorks(engine)
    }

    @Test func aLoadIsCancelledWithItsTask() async throws {
        let model = try ModelCopy()
        let (cancelled, cancel) = (Signal(), Locked<Task<Engine, any Error>?>(nil))
        let task = Task {
            await cancelled.wait()
            return try await Engine(model: model.path) { _ in cancel.withLock { $0 }?.cancel() }
        }
        cancel.withLock { $0 = task }
        cancelled.fire()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        let late = Task {
            while !Task.isCancelled {
                await Task.yield()
            }
            return try await Engine(model: model.path)
        }
        late.cancel()
        await #expect(throws: CancellationError.self) { _ = try await late.value }
    }

    @Test func itTellsWhatTheModelIs() async throws {
        let engine = try await Engine(on: ModelCopy(), options: EngineOptions(contextSize: 4096, pageTokens: 32))
        let info = engine.modelInfo
        #expect(info.architecture == "llama")
        #expect(!info.device.isEmpty && !info.quantization.isEmpty)
        #expect((info.vocabularySize, info.layerCount, info.hiddenSize) == (258, 1, 8))
        #expect((info.attentionHeadCount, info.keyValueHeadCount, info.headSize) == (2, 1, 4))
        #expect((info.contextSize, info.pageTokens) == (4096, 32))
        #expect(info.hasTokenizer && info.weightBytes > 0 && info.pageCount > 0)
    }

    @Test func itCountsWhatItDoes() async throws {
        let engine = try await Engine(on: ModelCopy())
        for _ in 0..<3 {
            _ = try await engine.respond(to: longPrompt(40), options: .tokens(10))
        }
        try await expectAtRest(engine)
        let now = engine.statistics
        #expect((now.acceptedRequests, now.finishedRequests, now.failedRequests) == (3, 3, 0))
        #expect((now.promptTokens, now.generatedTokens, now.prefixHits) == (120, 30, 2))
        #expect(now.cachedTokens >= 64 && now.steps >= 10 && now.cachedPages > 0)
        try await engine.shutdown()
        #expect(engine.statistics.generatedTokens == now.generatedTokens)
    }

    @Test func aWarmEngineHasThePromptInItsCache() async throws {
        let engine = try await Engine(on: ModelCopy())
        try await engine.prewarm()
        try await engine.prewarm(longPrompt(64))
        #expect(try await engine.respond(to: longPrompt(80), options: .tokens(2)).usage.cachedTokens >= 48)
    }

    @Test func nothingRunsWhileItIsSuspended() async throws {
        let engine = try await Engine(on: ModelCopy())
        try await engine.suspend()
        let stream = engine.stream(somePrompt, options: .tokens(20))
        let steps = engine.statistics.steps
        try await Task.sleep(for: .milliseconds(50))
        #expect(engine.statistics.steps == steps)
        #expect(engine.core.router.openCount == 1)
        try engine.resume()
        try engine.resume()
        #expect(try await stream.collect().tokens.count == 20)
    }

    @Test func allAreCancelledAtOnce() async throws {
        let engine = try await Engine(on: ModelCopy(mock: #"{"step_micros": 500}"#))
        let streams = (0..<4).map { _ in engine.stream(somePrompt, options: .tokens(8000)) }
        try engine.cancelAll()
        for stream in streams {
            #expect(try await streamed(stream).finishReason == .cancelled)
        }
        try await expectAtRest(engine)
    }

    @Test func textBecomesTokensAndTextAgain() async throws {
        let engine = try await Engine(on: ModelCopy())
        for text in ["", "Hello", "Grüße, 世界 👋🏽", "a\0b"] {
            let tokens = try engine.tokens(of: text)
            #expect(tokens.count == text.utf8.count)
            #expect(try engine.text(of: tokens) == text)
        }
        #expect(try engine.text(of: [72, 257, 105]) == "H<bos>i")
        #expect(try engine.text(of: [72, 257, 105], skippingSpecialTokens: true) == "Hi")
        #expect(try engine.text(of: [0xC3]) == "\u{FFFD}")
    }

    @Test func theCacheIsKeptOnDisk() async throws {
        let model = try ModelCopy()
        let file = model.directory.appendingPathComponent("cache").path
        let first = try await Engine(model: model.path)
        _ = try await first.respond(to: longPrompt(100), options: .tokens(2))
        let saved = try await first.saveCache(to: file)
        #expect(saved >= 6)
        let second = try await Engine(model: model.path)
        #expect(try await second.loadCache(from: file) == saved)
        #expect(try await second.respond(to: longPrompt(100), options: .tokens(2)).usage.cachedTokens >= 96)
        try model.write(Data("nothing".utf8), to: "cache")
        await expectError(.cacheInvalid, naming: "cache") { try await second.loadCache(from: file) }
    }
}

/// The log is the process's, so these run one after another.
@Suite(.serialized) struct LogTests {
    @Test func linesReachTheHandler() async throws {
        let lines = Locked<[(Log.Level, String)]>([])
        try Log.handle(upTo: .debug) { level, line in lines.withLock { $0.append((level, line)) } }
        try await expectWorks(Engine(on: ModelCopy()))
        try Log.handle(nil)
        let seen = lines.withLock { $0 }
        #expect(seen.contains { level, line in level == .info && line.contains("llama") })
        try await expectWorks(Engine(on: ModelCopy()))
        #expect(lines.withLock { $0.count } == seen.count)
    }

    @Test func theHandlerIsReleasedOnce() throws {
        final class Canary: Sendable {}
        var canary = Canary()
        for _ in 0..<3 {
            try Log.handle(upTo: .error) { [canary] _, _ in withExtendedLifetime(canary) {} }
            #expect(!isKnownUniquelyReferenced(&canary))
        }
        try Log.handle(nil)
        #expect(isKnownUniquelyReferenced(&canary))
    }
}
