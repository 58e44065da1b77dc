/// A JSON schema: what a structured answer, or the arguments of a tool, must look like.
public struct JSONSchema: Sendable, Hashable {
    /// The schema's text.
    public let json: String

    /// A schema as it is written. The library checks it when it is used.
    public init(json: String) {
        self.json = json
    }

    /// The schema of a type, found out by decoding it from a decoder that takes notes.
    ///
    /// It can be found out where the compiler wrote `init(from:)`: structs of numbers, strings, `Bool`, `Date`, `URL`,
    /// `UUID`, optionals, arrays, sets, dictionaries with string keys, and other such structs, also ones that contain
    /// themselves. Of enumerations, those with raw values that are `CaseIterable`. For other types, conform to
    /// ``JSONSchemaRepresentable``, or give the schema. Properties come in the order of the type's.
    ///
    /// Throws ``JSONSchemaError`` for a type of another kind.
    public init(for type: (some Decodable).Type) throws {
        json = try SchemaBuilder().document(for: type)
    }
}

/// A type that says itself what its JSON looks like.
public protocol JSONSchemaRepresentable: Decodable {
    static var jsonSchema: JSONSchema { get }
    /// Any value; it stands in where the schema of a type that contains this one is found out.
    static var schemaExample: Self { get }
}

/// A type whose schema cannot be found out.
public struct JSONSchemaError: Error, Sendable, CustomStringConvertible {
    /// The type, as Swift writes it.
    public let type: String
    /// Where in the type asked for it is: the names of the properties that lead there.
    public let path: [String]
    public let reason: String

    public var description: String {
        let place = path.isEmpty ? "" : " (at \(path.joined(separator: ".")))"
        return "no JSON schema can be derived for \(type)\(place): \(reason)"
    }
}
