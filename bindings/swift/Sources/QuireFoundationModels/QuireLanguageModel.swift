// Not tested: written from Apple's documentation of the macOS 27 and iOS 27 SDKs, on a system that has neither. Older
// SDKs make an empty module of this file.

#if canImport(FoundationModels) && compiler(>=6.4)
import Foundation
import FoundationModels
import Quire

/// A model of Quire's for sessions of the Foundation Models framework.
///
///     let model = QuireLanguageModel(engine: try await Engine(model: path))
///     let session = LanguageModelSession(model: model)
///
/// The framework keeps the transcript, calls the tools and decodes `Generable` types; Quire renders the conversation
/// with the model's own chat template, finds what it knows of it in its cache, and holds the answer to the schema.
@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
public struct QuireLanguageModel: LanguageModel {
    public typealias Executor = QuireExecutor

    public let executorConfiguration: QuireExecutor.Configuration

    public init(engine: Engine) {
        executorConfiguration = QuireExecutor.Configuration(engine: engine)
    }

    public var capabilities: LanguageModelCapabilities {
        LanguageModelCapabilities([.guidedGeneration, .reasoning, .toolCalling])
    }
}

/// Answers requests of the framework on an engine.
@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
public struct QuireExecutor: LanguageModelExecutor {
    public typealias Model = QuireLanguageModel

    /// One executor for each engine.
    public struct Configuration: Hashable, Sendable {
        let engine: Engine

        public static func == (left: Self, right: Self) -> Bool { left.engine === right.engine }

        public func hash(into hasher: inout Hasher) { hasher.combine(ObjectIdentifier(engine)) }
    }

    private let engine: Engine

    public init(configuration: Configuration) throws {
        engine = configuration.engine
    }

    public func prewarm(model: Model, transcript: FoundationModels.Transcript) {
        let engine = engine
        let prompt = Quire.Prompt(Quire.Transcript(transcript))
        // Asked for without being waited for; a template that refuses the conversation will say so to the request.
        Task { try? await engine.prewarm(prompt) }
    }

    public func respond(
        to request: LanguageModelExecutorGenerationRequest,
        model: Model,
        streamingInto channel: LanguageModelExecutorGenerationChannel
    ) async throws {
        let tools = try request.enabledToolDefinitions.map { try ToolDefinition($0) }
        let prompt = Quire.Prompt(Quire.Transcript(request.transcript), tools: tools)
        var options = Quire.GenerationOptions(request.generationOptions)
        if let schema = request.schema {
            options.grammar = .jsonSchema(try JSONSchema(schema))
        }
        for try await event in engine.stream(prompt, options: options) {
            try await send(event, to: channel)
        }
    }

    private func send(_ event: GenerationEvent, to channel: LanguageModelExecutorGenerationChannel) async throws {
        switch event {
        case .text(let delta):
            await channel.send(.response(action: .appendText(delta.text, tokenCount: delta.tokens.count)))
        case .reasoning(let delta):
            await channel.send(.reasoning(action: .appendText(delta.text, tokenCount: delta.tokens.count)))
        case .toolCall(let call, let delta):
            let arguments = call.arguments
            await channel.send(
                .toolCalls(
                    action: .toolCall(
                        id: UUID().uuidString, name: call.name,
                        action: .appendArguments(arguments, tokenCount: delta.tokens.count))))
        case .finished(let completion):
            if completion.finishReason == .cancelled {
                throw CancellationError()
            }
            let usage = completion.usage
            await channel.send(
                .response(
                    action: .updateUsage(
                        input: .init(totalTokenCount: usage.promptTokens, cachedTokenCount: usage.cachedTokens),
                        output: .init(totalTokenCount: usage.generatedTokens, reasoningTokenCount: 0))))
        }
    }
}
#endif
