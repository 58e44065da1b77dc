import Testing

@testable import Quire

@Suite struct StreamTests {
    @Test func anAnswerStreams() async throws {
        let engine = try await Engine(model: TestModel.path)
        var tokens = 0
        var completions: [Completion] = []
        for try await event in engine.stream(somePrompt, options: .tokens(25)) {
            switch event {
            case .text(let delta): tokens += delta.tokens.count
            case .finished(let completion): completions.append(completion)
            case .reasoning, .toolCall: Issue.record("\(event)")
            }
        }
        #expect(tokens == 25)
        #expect(completions.map(\.finishReason) == [.length])
        #expect(completions.first?.usage.promptTokens == 5)
    }
}
