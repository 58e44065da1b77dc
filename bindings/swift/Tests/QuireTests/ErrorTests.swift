import CQuire
import Foundation
import Testing

@testable import Quire

/// Every bad input of tests/c/bad_arguments.c and its neighbours that Swift's types let through gets the same status,
/// with a message that names it, and the engine goes on.
@Suite struct ErrorTests {
    /// The library lists its statuses by their names; each has a code.
    @Test func everyStatusHasACode() {
        var codes: Set<QuireError.Code> = []
        var status: quire_status = 1
        while String(cString: quire_status_name(status)) != "unknown status" {
            let code = QuireError.Code(status: status)
            #expect(code != .unknown(status), "\(String(cString: quire_status_name(status)))")
            codes.insert(code)
            status += 1
        }
        #expect(codes.count == Int(status) - 1)
        #expect(status > 20)
        #expect(QuireError.Code(status: status) == .unknown(status))
    }

    @Test func engineOptionsAreChecked() async throws {
        let model = try ModelCopy()
        let bad: [(String, (inout EngineOptions) -> Void)] = [
            ("max_sequences", { $0.maximumConcurrentRequests = 0 }),
            ("max_sequences", { $0.maximumConcurrentRequests = 4097 }),
            ("maximumConcurrentRequests", { $0.maximumConcurrentRequests = -1 }),
            ("max_waiting", { $0.maximumWaitingRequests = 1_000_001 }),
            ("maximumWaitingRequests", { $0.maximumWaitingRequests = .min }),
            ("max_step_tokens", { $0.maximumStepTokens = 15 }),
            ("max_step_tokens", { $0.maximumStepTokens = 32769 }),
            ("block_tokens", { $0.pageTokens = 0 }),
            ("block_tokens", { $0.pageTokens = 24 }),
            ("block_tokens", { $0.pageTokens = 2048 }),
            ("cacheBytes", { $0.cacheBytes = -1 }),
            ("contextSize", { $0.contextSize = .max }),
        ]
        for (name, change) in bad {
            var options = EngineOptions()
            change(&options)
            await expectError(.invalidArgument, naming: name) {
                _ = try await Engine(model: model.path, options: options)
            }
        }
        await expectError(.invalidArgument, naming: "model") { _ = try await Engine(model: "") }
        await expectError(.invalidArgument, naming: "model") { _ = try await Engine(model: "a\0b") }
    }

    @Test func modelsAreChecked() async throws {
        await expectError(.modelNotFound, naming: "/nowhere") { _ = try await Engine(model: "/nowhere/at/all") }
        let bad: [(QuireError.Code, String, (ModelCopy) throws -> Void)] = [
            (.modelInvalid, "config.json", { try $0.remove("config.json") }),
            (.modelInvalid, "config.json", { try $0.write(Data("{".utf8), to: "config.json") }),
            (.modelUnsupported, "mamba99", { try $0.replace("\"llama\"", with: "\"mamba99\"", in: "config.json") }),
            (.modelInvalid, "hidden_size", { try $0.replace("\"hidden_size\": 8", with: "\"hidden_size\": 0", in: "config.json") }),
            (.modelInvalid, "safetensors", { try $0.remove("model.safetensors") }),
            (.modelInvalid, "model.norm.weight", { try $0.replace("model.norm.weight", with: "model.norn.weight", in: "model.safetensors") }),
            (.tokenizerInvalid, "tokenizer.json", { try $0.write(Data("{}".utf8), to: "tokenizer.json") }),
        ]
        for (code, name, damage) in bad {
            let model = try ModelCopy()
            try damage(model)
            await expectError(code, naming: name) { _ = try await Engine(on: model) }
        }
    }

    @Test func requestsAreChecked() async throws {
        let engine = try await Engine(on: ModelCopy())
        let vocabulary = TokenID(engine.modelInfo.vocabularySize)
        let context = engine.modelInfo.contextSize
        let bad: [(QuireError.Code, String, (inout GenerationOptions) -> Void)] = [
            (.invalidArgument, "max_tokens", { $0.maximumResponseTokens = 0 }),
            (.invalidArgument, "maximumResponseTokens", { $0.maximumResponseTokens = -1 }),
            (.promptTooLong, "max_tokens", { $0.maximumResponseTokens = context }),
            (.promptTooLong, "max_tokens", { $0.maximumResponseTokens = Int(UInt32.max) }),
            (.invalidArgument, "min_tokens", { $0.minimumResponseTokens = 300 }),
            (.invalidArgument, "temperature", { $0.temperature = -0.1 }),
            (.invalidArgument, "temperature", { $0.temperature = 100.5 }),
            (.invalidArgument, "temperature", { $0.temperature = .nan }),
            (.invalidArgument, "temperature", { $0.temperature = .infinity }),
            (.invalidArgument, "greedy", { ($0.temperature, $0.sampling) = (0.5, .greedy) }),
            (.invalidArgument, "top_p", { $0.sampling = .random(probabilityThreshold: 0) }),
            (.invalidArgument, "top_p", { $0.sampling = .random(probabilityThreshold: 1.01) }),
            (.invalidArgument, "top_p", { $0.sampling = .random(probabilityThreshold: .nan) }),
            (.invalidArgument, "min_p", { $0.sampling = .random(minimumProbability: -0.5) }),
            (.invalidArgument, "min_p", { $0.sampling = .random(minimumProbability: 1.5) }),
            (.invalidArgument, "top is -1", { $0.sampling = .random(top: -1) }),
            (.invalidArgument, "typical_p", { $0.typicalProbability = 0 }),
            (.invalidArgument, "xtc_probability", { $0.xtcProbability = 2 }),
            (.invalidArgument, "xtc_threshold", { $0.xtcThreshold = 0.6 }),
            (.invalidArgument, "repetition_penalty", { $0.penalties.repetition = -1 }),
            (.invalidArgument, "presence_penalty", { $0.penalties.presence = 101 }),
            (.invalidArgument, "frequency_penalty", { $0.penalties.frequency = .nan }),
            (.invalidArgument, "penalties.window", { $0.penalties.window = -1 }),
            (.invalidArgument, "logit_bias[0]", { $0.tokenBiases = [vocabulary: 1] }),
            (.invalidArgument, "logit_bias[1]", { $0.tokenBiases = [1: 1, 2: .nan] }),
            (.invalidArgument, "top_logprobs", { $0.logProbabilities = .init(alternatives: 21) }),
            (.invalidArgument, "logProbabilities.alternatives", { $0.logProbabilities = .init(alternatives: -1) }),
            (.invalidArgument, "stop_tokens[1]", { $0.stopTokens = [3, vocabulary] }),
            (.invalidArgument, "stop_strings[1]", { $0.stopStrings = ["ok", ""] }),
            (.invalidArgument, "stop_strings", { $0.stopStrings = Array(repeating: "stop", count: 65) }),
            (.invalidArgument, "stop_strings[0]", { $0.stopStrings = [String(repeating: "x", count: 1 << 20)] }),
            (.invalidArgument, "priority", { $0.priority = .max }),
            (.grammarInvalid, "line 1 column", { $0.grammar = .jsonSchema(JSONSchema(json: "{\"type\"")) }),
            (.grammarInvalid, "its root", { $0.grammar = .jsonSchema(JSONSchema(json: "false")) }),
            (.grammarInvalid, "regular expression", { $0.grammar = .regex("a(") }),
            (.grammarInvalid, "nowhere", { $0.grammar = .lark("start: nowhere") }),
            (.grammarInvalid, "0 choices", { $0.grammar = .choice([]) }),
        ]
        for (code, name, change) in bad {
            var options = GenerationOptions()
            change(&options)
            await expectError(code, naming: name) { _ = try await engine.respond(to: somePrompt, options: options) }
        }
        #expect(engine.statistics.acceptedRequests == 0)
        #expect(engine.core.router.openCount == 0)
        try await expectWorks(engine)
    }

    @Test func promptsAreChecked() async throws {
        let engine = try await Engine(on: ModelCopy())
        let vocabulary = TokenID(engine.modelInfo.vocabularySize)
        let context = engine.modelInfo.contextSize
        let bad: [(QuireError.Code, String, Prompt)] = [
            (.invalidArgument, "prompt", Prompt(tokens: [])),
            (.invalidArgument, "prompt_tokens[2]", Prompt(tokens: [1, 2, vocabulary])),
            (.invalidArgument, "prompt_tokens[0]", Prompt(tokens: [.max])),
            (.promptTooLong, "context", Prompt(tokens: Array(repeating: 1, count: context))),
            (.promptTooLong, "context", Prompt(String(repeating: "x", count: context + 1))),
            (.templateMissing, "template", Prompt(Transcript([.prompt("Hello")]))),
        ]
        for (code, name, prompt) in bad {
            await expectError(code, naming: name) { _ = try await engine.respond(to: prompt) }
        }
        await expectError(.invalidArgument, naming: "258") { _ = try engine.text(of: [vocabulary]) }
        await expectError(.io, naming: "nowhere") { try await engine.loadCache(from: "/nowhere/at/all") }
        await expectError(.invalidArgument, naming: "path") { try await engine.saveCache(to: "") }
        try await expectWorks(engine)
    }

    @Test func templatesAreChecked() async throws {
        let broken = try await Engine(on: ModelCopy(template: "\n{% for %}"))
        let prompt = Prompt(Transcript([.prompt("Hello")]))
        await expectError(.templateError, naming: "chat_template.jinja:2") { _ = try broken.text(of: prompt) }
        await expectError(.templateError, naming: "chat_template.jinja:2") { _ = try await broken.respond(to: prompt) }
        let sound = try await Engine(on: ModelCopy(template: "{{ messages[0].content }}"))
        await expectError(.invalidArgument, naming: "messages") {
            _ = try sound.text(of: Prompt(Transcript([.toolCalls([ToolCall(name: "f", arguments: "{")], text: "", reasoning: "")])))
        }
        try await expectWorks(broken)
    }

    @Test func aModelWithoutTokenizerTakesTokens() async throws {
        let model = try ModelCopy()
        try model.remove("tokenizer.json")
        let engine = try await Engine(on: model)
        #expect(!engine.modelInfo.hasTokenizer)
        await expectError(.tokenizerMissing, naming: "tokenizer") { _ = try await engine.respond(to: "Hello") }
        await expectError(.tokenizerMissing, naming: "tokenizer") { _ = try engine.tokens(of: "Hello") }
        var options = GenerationOptions()
        options.stopStrings = ["stop"]
        await expectError(.tokenizerMissing, naming: "tokenizer") { [options] in
            _ = try await engine.respond(to: somePrompt, options: options)
        }
        try await expectWorks(engine)
    }

    @Test func aFullQueueRefuses() async throws {
        let options = EngineOptions(maximumConcurrentRequests: 1, maximumWaitingRequests: 1)
        let engine = try await Engine(on: ModelCopy(mock: #"{"step_micros": 500}"#), options: options)
        let kept = (0..<2).map { _ in engine.stream(somePrompt, options: .tokens(4000)) }
        await expectError(.queueFull, naming: "2") { _ = try await engine.respond(to: somePrompt) }
        kept.forEach { $0.cancel() }
        try await expectAtRest(engine)
        try await expectWorks(engine)
    }

    @Test func aDeadlinePasses() async throws {
        let engine = try await Engine(on: ModelCopy(mock: #"{"step_micros": 1000}"#))
        var options = GenerationOptions.tokens(8000)
        options.timeout = .milliseconds(30)
        await expectError(.deadlineExceeded, naming: "deadline") { [options] in
            _ = try await engine.respond(to: somePrompt, options: options)
        }
        try await expectAtRest(engine)
    }
}
