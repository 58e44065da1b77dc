/// A decoder that has every key, gives example values, and takes notes of what is asked for.
final class SchemaDecoder: Decoder {
    let builder: SchemaBuilder
    let notes = Notes()
    var codingPath: [any CodingKey] { [] }
    var userInfo: [CodingUserInfoKey: Any] { [:] }

    /// What a type asked for.
    final class Notes {
        enum Kind {
            case nothing
            case object
            /// The schema of the one value it is written as.
            case value(SchemaBuilder.Schema)
        }

        var kind = Kind.nothing
        var properties: SchemaBuilder.Schema = []
        var optional: Set<String> = []

        var schema: SchemaBuilder.Schema {
            if case .value(let schema) = kind {
                return schema
            }
            let required = properties.map(\.name).filter { !optional.contains($0) }
            return [
                ("type", "\"object\""),
                ("properties", JSON.object(properties)),
                ("required", JSON.array(required.map(JSON.string))),
                ("additionalProperties", "false"),
            ]
        }

        func note(_ key: String, _ schema: SchemaBuilder.Schema, optional isOptional: Bool) {
            if !properties.contains(where: { $0.name == key }) {
                properties.append((key, JSON.object(schema)))
            }
            if isOptional {
                optional.insert(key)
            }
        }
    }

    init(builder: SchemaBuilder) {
        self.builder = builder
    }

    func container<Key: CodingKey>(keyedBy type: Key.Type) -> KeyedDecodingContainer<Key> {
        notes.kind = .object
        return KeyedDecodingContainer(Keyed(builder: builder, notes: notes))
    }

    func unkeyedContainer() throws -> any UnkeyedDecodingContainer {
        throw builder.failure(Self.self, "its elements are of different kinds, or it reads an array by itself")
    }

    func singleValueContainer() -> any SingleValueDecodingContainer {
        Single(builder: builder, notes: notes)
    }
}

extension SchemaDecoder {
    private struct Keyed<Key: CodingKey>: KeyedDecodingContainerProtocol {
        let builder: SchemaBuilder
        let notes: Notes
        var codingPath: [any CodingKey] { [] }
        /// Unknown: a type that looks decides by them what it is.
        var allKeys: [Key] { [] }

        func contains(_ key: Key) -> Bool { true }

        /// What can be null can be left out.
        func decodeNil(forKey key: Key) -> Bool {
            notes.optional.insert(key.stringValue)
            return false
        }

        func decode<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T {
            let (schema, value) = try visit(type, key)
            notes.note(key.stringValue, schema, optional: false)
            return value
        }

        func decodeIfPresent<T: Decodable>(_ type: T.Type, forKey key: Key) throws -> T? {
            if let reference = builder.reference(to: type) {
                notes.note(key.stringValue, reference, optional: true)
                return nil
            }
            let (schema, value) = try visit(type, key)
            notes.note(key.stringValue, schema, optional: true)
            return value
        }

        private func visit<T: Decodable>(_ type: T.Type, _ key: Key) throws -> (SchemaBuilder.Schema, T) {
            builder.path.append(key.stringValue)
            let found = try builder.visit(type)
            builder.path.removeLast()
            return found
        }

        func nestedContainer<NestedKey: CodingKey>(keyedBy type: NestedKey.Type, forKey key: Key) throws
            -> KeyedDecodingContainer<NestedKey>
        {
            throw nested(key)
        }

        func nestedUnkeyedContainer(forKey key: Key) throws -> any UnkeyedDecodingContainer { throw nested(key) }
        func superDecoder() throws -> any Decoder { throw builder.failure(Key.self, "it has a superclass") }
        func superDecoder(forKey key: Key) throws -> any Decoder { throw nested(key) }

        private func nested(_ key: Key) -> JSONSchemaError {
            builder.failure(Key.self, "'\(key.stringValue)' is decoded by hand")
        }
    }

    private struct Single: SingleValueDecodingContainer {
        let builder: SchemaBuilder
        let notes: Notes
        var codingPath: [any CodingKey] { [] }

        func decodeNil() -> Bool { false }

        func decode<T: Decodable>(_ type: T.Type) throws -> T {
            let (schema, value) = try builder.visit(type)
            notes.kind = .value(schema)
            return value
        }
    }
}
