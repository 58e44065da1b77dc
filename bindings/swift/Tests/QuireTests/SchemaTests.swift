import Foundation
import Testing

@testable import Quire

/// The schemas of types.
@Suite struct SchemaTests {
    struct Point: Codable, Equatable {
        let x: Int
        let y: Double
        let name: String?
    }

    enum Suit: String, Codable, CaseIterable {
        case hearts, spades
    }

    enum Level: Int, Codable, CaseIterable {
        case low = 1
        case high = 9
    }

    struct Everything: Codable {
        let flag: Bool
        let byte: UInt8
        let count: UInt
        let points: [Point]
        let suit: Suit
        let level: Level?
        let tags: Set<String>
        let scores: [String: Float]
        let link: URL
        let id: UUID
        let made: Date
    }

    struct Tree: Codable {
        let label: String
        let children: [Tree]
        let twin: [String: Tree]?
    }

    struct Renamed: Codable {
        let value: Int
        enum CodingKeys: String, CodingKey { case value = "the value" }
    }

    struct Wrapper: RawRepresentable, Codable {
        let rawValue: String
    }

    @Test func aStructIsAnObject() throws {
        let schema = try JSONSchema(for: Point.self)
        #expect(
            schema.json == #"{"type": "object", "properties": {"x": {"type": "integer"}, "y": {"type": "number"}, "#
                + #""name": {"type": "string"}}, "required": ["x", "y"], "additionalProperties": false}"#)
        #expect(try JSONSchema(for: Renamed.self).json.contains(#""the value": {"type": "integer"}"#))
    }

    @Test func everyKindOfValueHasOne() throws {
        let json = try JSONSchema(for: Everything.self).json
        for part in [
            #""flag": {"type": "boolean"}"#,
            #""byte": {"type": "integer", "minimum": 0, "maximum": 255}"#,
            #""count": {"type": "integer", "minimum": 0}"#,
            #""points": {"type": "array", "items": {"type": "object""#,
            #""suit": {"enum": ["hearts", "spades"]}"#,
            #""level": {"enum": [1, 9]}"#,
            #""tags": {"type": "array", "items": {"type": "string"}}"#,
            #""scores": {"type": "object", "additionalProperties": {"type": "number"}}"#,
            #""link": {"type": "string", "format": "uri"}"#,
            #""id": {"type": "string", "format": "uuid"}"#,
            #""made": {"type": "string", "pattern""#,
        ] {
            #expect(json.contains(part), "\(json)")
        }
        let required = #""required": ["flag", "byte", "count", "points", "suit", "tags", "scores", "link", "id", "made"]"#
        #expect(json.contains(required))
        #expect(try JSONSchema(for: [Int].self).json == #"{"type": "array", "items": {"type": "integer"}}"#)
        #expect(try JSONSchema(for: Wrapper.self).json == #"{"type": "string"}"#)
        let parsed = try JSONSerialization.jsonObject(with: Data(json.utf8)) as? [String: Any]
        #expect(parsed?["type"] as? String == "object")
    }

    @Test func aTypeMayContainItself() throws {
        let json = try JSONSchema(for: Tree.self).json
        #expect(json.hasPrefix(##"{"$ref": "#/$defs/Tree", "$defs": {"Tree": {"type": "object""##))
        #expect(json.contains(##""children": {"type": "array", "items": {"$ref": "#/$defs/Tree"}}"##))
        #expect(json.contains(#""required": ["label", "children"]"#))
    }

    struct Even: JSONSchemaRepresentable, Equatable {
        let value: Int
        static var jsonSchema: JSONSchema { JSONSchema(json: #"{"enum": [2, 4]}"#) }
        static var schemaExample: Even { Even(value: 2) }
        init(value: Int) { self.value = value }
        init(from decoder: any Decoder) throws { value = try decoder.singleValueContainer().decode(Int.self) }
    }

    struct Evens: Decodable {
        let first: Even
    }

    @Test func aTypeMayTellItsOwn() throws {
        #expect(try JSONSchema(for: Evens.self).json.contains(#""first": {"allOf": [{"enum": [2, 4]}]}"#))
    }

    enum Shape: Decodable {
        case circle(radius: Double)
    }

    enum Unlisted: String, Decodable {
        case only
    }

    struct Deep: Decodable {
        struct Inner: Decodable {
            let unlisted: Unlisted
        }
        let inner: Inner
    }

    @Test func othersAreRefused() {
        #expect(throws: JSONSchemaError.self) { _ = try JSONSchema(for: Shape.self) }
        #expect(throws: JSONSchemaError.self) { _ = try JSONSchema(for: Unlisted.self) }
        #expect(throws: JSONSchemaError.self) { _ = try JSONSchema(for: Data.self) }
        #expect(throws: JSONSchemaError.self) { _ = try JSONSchema(for: Deep.self) }
    }

    @Test func aRefusalSaysWhere() {
        do {
            _ = try JSONSchema(for: Deep.self)
            Issue.record("nothing was thrown")
        } catch {
            #expect("\(error)".contains("Unlisted (at inner.unlisted)"), "\(error)")
        }
    }

    /// Whatever the mock says, within the schema it is a value of the type.
    @Test(.mockOnly) func answersAreValues() async throws {
        let engine = try await Engine(on: ModelCopy())
        for seed in UInt64(0)..<8 {
            let options = GenerationOptions(sampling: .random(seed: seed), maximumResponseTokens: 3000)
            try await expectValue(of: Level.self, engine, options)
            try await expectValue(of: [Suit].self, engine, options)
            try await expectValue(of: Small.self, engine, options)
        }
        let options = GenerationOptions(maximumResponseTokens: 3000)
        let even = try await engine.respond(to: somePrompt, generating: Evens.self, options: options)
        #expect([2, 4].contains(even.content.first.value))
    }

    struct Small: Codable {
        let suit: Suit
        let level: Level
        let ok: Bool
        let pairs: [[Level]]?
        let made: Date
    }

    private func expectValue<Value: Decodable & Sendable>(
        of type: Value.Type, _ engine: Engine, _ options: GenerationOptions
    ) async throws {
        do {
            let answer = try await engine.respond(to: somePrompt, generating: type, options: options)
            #expect(!answer.text.isEmpty)
        } catch let error as ResponseDecodingError {
            // A list may be longer than the answer; nothing else is an excuse.
            #expect(error.finishReason == .length, "\(error)")
        }
    }

    @Test(.mockOnly) func aSchemaMayBeGiven() async throws {
        let engine = try await Engine(on: ModelCopy())
        let schema = JSONSchema(json: #"{"type": "array", "items": {"const": 7}, "minItems": 3, "maxItems": 3}"#)
        let answer = try await engine.respond(to: somePrompt, generating: [Int].self, schema: schema)
        #expect(answer.content == [7, 7, 7])
    }

    @Test(.mockOnly) func aValueThatIsCutOffIsThrown() async throws {
        let engine = try await Engine(on: ModelCopy())
        do {
            _ = try await engine.respond(
                to: somePrompt, generating: Small.self, options: GenerationOptions(maximumResponseTokens: 5))
            Issue.record("nothing was thrown")
        } catch let error as ResponseDecodingError {
            #expect(error.finishReason == .length)
            #expect(error.text.hasPrefix("{"))
        }
    }

    @Test(.mockOnly) func otherGrammarsHold() async throws {
        let engine = try await Engine(on: ModelCopy())
        var options = GenerationOptions()
        options.grammar = .regex("yes{3}")
        #expect(try await engine.respond(to: somePrompt, options: options).text == "yesss")
        options.grammar = .choice(["left \"", "right"])
        #expect(["left \"", "right"].contains(try await engine.respond(to: somePrompt, options: options).text))
        options.grammar = .lark("start: \"(\" /[01]/ \")\"")
        let answer = try await engine.respond(to: somePrompt, options: options)
        #expect(["(0)", "(1)"].contains(answer.text))
        #expect(answer.finishReason == .grammar)
        options.grammar = .jsonObject
        #expect(try await engine.respond(to: somePrompt, options: options).text.hasPrefix("{"))
    }
}
