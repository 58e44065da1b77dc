import CQuire
import Testing

@testable import Quire

/// What comes out of a stream.
@Suite struct StreamTests {
    @Test func streamsGiveWhatCGives() async throws {
        let model = try ModelCopy()
        let expected = try CAnswer.answers(model: model.path, to: prompts(6)) { $0.max_tokens = 60 }
        let engine = try await Engine(model: model.path)
        for (prompt, expected) in zip(prompts(6), expected) {
            let stream = engine.stream(.tokens(prompt), options: GenerationOptions(maximumResponseTokens: 60))
            #expect(CAnswer(try await streamed(stream)) == expected)
        }
    }

    @Test func sampledStreamsGiveWhatCGives() async throws {
        let model = try ModelCopy()
        let expected = try CAnswer.answers(model: model.path, to: prompts(3)) { request in
            (request.max_tokens, request.ignore_eos) = (50, 1)
            (request.temperature, request.top_k, request.top_p, request.seed) = (0.8, 40, 0.95, 12345)
        }
        let engine = try await Engine(model: model.path)
        for (prompt, expected) in zip(prompts(3), expected) {
            var options = GenerationOptions.tokens(50)
            options.temperature = 0.8
            options.sampling = .random(top: 40, probabilityThreshold: 0.95, seed: 12345)
            #expect(CAnswer(try await streamed(engine.stream(.tokens(prompt), options: options))) == expected)
        }
    }

    @Test func theLastEventSaysHowItWas() async throws {
        let engine = try await Engine(on: ModelCopy())
        _ = try await engine.respond(to: longPrompt(40), options: .tokens(3))
        let answer = try await streamed(engine.stream(longPrompt(40), options: .tokens(12)))
        #expect(answer.finishReason == .length)
        #expect(answer.usage.promptTokens == 40)
        #expect(answer.usage.cachedTokens >= 32)
        #expect(answer.usage.generatedTokens == 12)
        let firstToken = try #require(answer.timings.firstToken)
        #expect(answer.timings.queued <= firstToken)
        #expect(firstToken <= answer.timings.total)
        #expect(answer.timings.queued > .zero)
    }

    @Test func textAloneIsTheSameText() async throws {
        let engine = try await Engine(on: ModelCopy())
        let options = GenerationOptions.tokens(80)
        let whole = try await engine.respond(to: "Grüße, 世界", options: options)
        var text = ""
        for try await piece in engine.stream("Grüße, 世界", options: options).text {
            #expect(!piece.isEmpty)
            text += piece
        }
        #expect(text == whole.text)
        #expect(try engine.text(of: whole.tokens) == whole.text)
    }

    @Test func everySettingIsTaken() async throws {
        let engine = try await Engine(on: ModelCopy())
        // Hot, for the models of these tests repeat themselves.
        var varied = GenerationOptions.tokens(40)
        (varied.sampling, varied.temperature) = (.random(seed: 7), 5)
        let free = try await engine.respond(to: somePrompt, options: varied)

        var options = varied
        options.stopTokens = [try #require(free.tokens.dropFirst(5).first { !free.tokens.prefix(5).contains($0) })]
        let stopped = try await engine.respond(to: somePrompt, options: options)
        #expect(stopped.finishReason == .stopToken(options.stopTokens[0]))
        #expect(stopped.tokens == Array(free.tokens.prefix(stopped.tokens.count)))

        options = varied
        let letter = try #require(free.text.unicodeScalars.first { ("!"..."~").contains($0) })
        options.stopStrings = ["never said", String(letter)]
        #expect(try await engine.respond(to: somePrompt, options: options).finishReason == .stopString(1))

        options = .tokens(20)
        let likely = try await engine.respond(to: somePrompt, options: options).tokens[0]
        options.tokenBiases = [likely: -.infinity]
        #expect(try await engine.respond(to: somePrompt, options: options).tokens[0] != likely)

        options = .tokens(20)
        options.penalties = .init(repetition: 1.2, presence: 0.5, frequency: 0.5, window: 16)
        (options.typicalProbability, options.xtcProbability, options.xtcThreshold) = (0.9, 0.5, 0.1)
        options.sampling = .random(minimumProbability: 0.01)
        (options.minimumResponseTokens, options.priority, options.timeout) = (10, -3, .seconds(600))
        #expect(try await engine.respond(to: somePrompt, options: options).tokens.count == 20)
    }

    @Test func logProbabilitiesComeWithTheirTokens() async throws {
        let engine = try await Engine(on: ModelCopy())
        var options = GenerationOptions.tokens(12)
        #expect(try await engine.respond(to: somePrompt, options: options).logProbabilities.isEmpty)
        options.logProbabilities = .init(alternatives: 4, includesPrompt: true)
        let answer = try await engine.respond(to: somePrompt, options: options)
        #expect(answer.logProbabilities.count == 12)
        #expect(answer.promptLogProbabilities.count == 4)
        for probability in answer.logProbabilities + answer.promptLogProbabilities {
            #expect(probability.value <= 0)
            #expect(probability.alternatives.count == 4)
            #expect(probability.alternatives.map(\.value) == probability.alternatives.map(\.value).sorted(by: >))
            #expect(probability.alternatives[0].value >= probability.value)
        }
    }

    @Test func saltsKeepPrefixesApart() async throws {
        let engine = try await Engine(on: ModelCopy())
        var options = GenerationOptions.tokens(2)
        options.cacheSalt = "a"
        _ = try await engine.respond(to: longPrompt(64), options: options)
        #expect(try await engine.respond(to: longPrompt(64), options: options).usage.cachedTokens > 0)
        options.cacheSalt = "b"
        #expect(try await engine.respond(to: longPrompt(64), options: options).usage.cachedTokens == 0)
    }

    /// A reader that falls behind gets what it missed in one piece, and nothing twice.
    @Test func aSlowReaderCatchesUp() async throws {
        let engine = try await Engine(on: ModelCopy())
        let whole = try await engine.respond(to: somePrompt, options: .tokens(2000))
        let stream = engine.stream(somePrompt, options: .tokens(2000))
        try await eventually("the request has ended unread") { engine.statistics.finishedRequests == 2 }
        try await eventually("its events came") { engine.core.router.openCount == 0 }
        var events: [GenerationEvent] = []
        for try await event in stream {
            events.append(event)
        }
        #expect(events.count == 2)
        guard case .text(let delta) = events.first else { throw QuireError(.internal, "\(events)") }
        #expect(delta.tokens == whole.tokens)
        #expect(delta.text == whole.text)
    }

    @Test(.mockOnly) func aFailureIsThrownAfterWhatCameBefore() async throws {
        let engine = try await Engine(on: ModelCopy(mock: #"{"fail_at_step": 5}"#))
        var tokens = 0
        await expectError(.deviceError, naming: "step 5") {
            for try await event in engine.stream(somePrompt, options: .tokens(100)) {
                if case .text(let delta) = event {
                    tokens += delta.tokens.count
                }
            }
        }
        #expect(tokens > 0 && tokens < 5)
        try await expectWorks(engine)
    }
}
