import CQuire
import Testing

@testable import Quire

/// The contract on a real model. One engine for all, and one test at a time: its weights take half a gigabyte.
@Suite(.serialized, .enabled(if: !TestModel.isMock, "the library is the mock build"))
struct RealModelTests {
    private static let shared = Task { try await Engine(model: TestModel.path) }

    private func engine() async throws -> Engine { try await Self.shared.value }

    @Test func streamsGiveWhatCGives() async throws {
        let engine = try await engine()
        let tokens = try ["The capital of France is", "Once upon a time"].map { try engine.tokens(of: $0) }
        let expected = try CAnswer.answers(model: TestModel.path, to: tokens) { $0.max_tokens = 24 }
        for (tokens, expected) in zip(tokens, expected) {
            let stream = engine.stream(.tokens(tokens), options: GenerationOptions(maximumResponseTokens: 24))
            #expect(CAnswer(try await streamed(stream)) == expected)
        }
        #expect(expected[0].text.contains("Paris"))
    }

    @Test func manyStreamsGiveWhatEachGivesAlone() async throws {
        let engine = try await engine()
        try await expectManyStreams(engine, streams: 16, tokens: 8)
        try await expectAtRest(engine)
    }

    @Test func racingCancelsLeaveNothingBehind() async throws {
        try await expectRacingCancels(engine(), count: 200, tokens: 6)
    }

    @Test func aTaskIsCancelled() async throws {
        let engine = try await engine()
        let cancelled = engine.statistics.cancelledRequests
        let task = Task { try await engine.respond(to: "Once upon a time", options: .tokens(2000)) }
        try await eventually("it runs") { engine.statistics.runningRequests == 1 }
        task.cancel()
        await #expect(throws: CancellationError.self) { _ = try await task.value }
        try await eventually("it was cancelled") { engine.statistics.cancelledRequests == cancelled + 1 }
        try await expectAtRest(engine)
    }

    enum Answer: String, Decodable, CaseIterable {
        case paris = "Paris"
        case rome = "Rome"
        case berlin = "Berlin"
    }

    struct City: Decodable {
        let capital: Answer
        let inhabitants: Int
        let isInEurope: Bool
    }

    @Test func anAnswerIsAValue() async throws {
        let engine = try await engine()
        let options = GenerationOptions(maximumResponseTokens: 100)
        let city = try await engine.respond(
            to: "The capital of France, as JSON: ", generating: City.self, options: options)
        #expect(city.content.capital == .paris)
        #expect(city.finishReason == .grammar || city.text.hasSuffix("}"))
    }

    @Test func aConversationGoesOn() async throws {
        let session = ChatSession(engine: try await engine(), instructions: "You are a helpful assistant.")
        let options = GenerationOptions(maximumResponseTokens: 24)
        let first = try await session.respond(to: "What is the capital of France?", options: options)
        #expect(first.text.contains("Paris"))
        let second = try await session.respond(to: "And of Italy?", options: options)
        #expect(second.usage.cachedTokens >= first.usage.promptTokens / 16 * 16)
        #expect(session.transcript.count == 5)
    }

    @Test func aToolIsCalledAndTheAnswerGoesOn() async throws {
        struct Temperature: Tool {
            struct Arguments: Decodable {
                let city: Answer
            }
            let name = "temperature"
            let description = "Measures the temperature in a city"
            func call(arguments: Arguments) async throws -> Int { 21 }
        }
        let prompt = try Prompt(
            Transcript([
                .prompt("How warm is it in Rome?"),
                .toolCalls([ToolCall(name: "temperature", arguments: #"{"city": "Rome"}"#)], text: "", reasoning: ""),
                .toolOutput("21", toolName: "temperature"),
            ]), tools: [Temperature().definition])
        let answer = try await engine().respond(to: prompt, options: GenerationOptions(maximumResponseTokens: 30))
        #expect(!answer.text.isEmpty)
    }
}
