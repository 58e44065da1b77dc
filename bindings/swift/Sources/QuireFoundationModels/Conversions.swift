#if canImport(FoundationModels) && compiler(>=6.4)
import Foundation
import FoundationModels
import Quire

@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
extension Quire.Transcript {
    /// The framework's transcript as Quire's. What is no text (images) has no place in it.
    init(_ transcript: FoundationModels.Transcript) {
        self.init(
            transcript.flatMap { entry -> [Entry] in
                switch entry {
                case .instructions(let instructions): [.instructions(text(of: instructions.segments))]
                case .prompt(let prompt): [.prompt(text(of: prompt.segments))]
                case .response(let response): [.response(text(of: response.segments), reasoning: "")]
                case .toolCalls(let calls):
                    [
                        .toolCalls(
                            calls.map { ToolCall(name: $0.toolName, arguments: $0.arguments.jsonString) }, text: "",
                            reasoning: "")
                    ]
                case .toolOutput(let output): [.toolOutput(text(of: output.segments), toolName: output.toolName)]
                default: []
                }
            })
    }
}

@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
private func text(of segments: [FoundationModels.Transcript.Segment]) -> String {
    segments.compactMap { segment in
        switch segment {
        case .text(let text): text.content
        case .structure(let structure): structure.content.jsonString
        default: nil
        }
    }.joined(separator: "\n")
}

@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
extension ToolDefinition {
    init(_ definition: FoundationModels.Transcript.ToolDefinition) throws {
        self.init(
            name: definition.name, description: definition.description,
            parameters: try JSONSchema(definition.parameters))
    }
}

@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
extension JSONSchema {
    /// The framework encodes its schemas as JSON schemas.
    init(_ schema: GenerationSchema) throws {
        self.init(json: String(decoding: try JSONEncoder().encode(schema), as: UTF8.self))
    }
}

@available(macOS 27.0, iOS 27.0, visionOS 27.0, *)
@available(tvOS, unavailable)
@available(watchOS, unavailable)
extension Quire.GenerationOptions {
    /// The framework does not tell what is in a sampling mode but for `greedy`: of others only the temperature counts.
    init(_ options: FoundationModels.GenerationOptions) {
        self.init(maximumResponseTokens: options.maximumResponseTokens)
        if options.samplingMode == .greedy {
            sampling = .greedy
        } else {
            sampling = .random()
            temperature = options.temperature
        }
    }
}
#endif
