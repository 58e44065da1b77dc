#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// Finds out the schemas of types. Each visit gives a type's schema and a value of it, for with no value there is no
/// decoding the type that contains it.
final class SchemaBuilder {
    /// The keywords of a schema with their JSON, in order.
    typealias Schema = [(name: String, value: String)]

    /// Types that are being decoded, outermost first.
    private var open: [Open] = []
    /// Schemas of types that contain themselves.
    private var definitions: Schema = []
    /// The properties that lead to where we are.
    var path: [String] = []

    private struct Open {
        let type: ObjectIdentifier
        let name: String
        var isReferenced = false
    }

    func document<T: Decodable>(for type: T.Type) throws -> String {
        let (schema, _) = try visit(type)
        guard !definitions.isEmpty else { return JSON.object(schema) }
        return JSON.object(schema + [("$defs", JSON.object(definitions))])
    }

    func visit<T: Decodable>(_ type: T.Type) throws -> (Schema, T) {
        if let known = try leaf(type) ?? selfDescribed(type) ?? enumeration(type) {
            return known
        }
        if let container = type as? any SchemaContainer.Type {
            return try container.visit(self, as: type)
        }
        guard reference(to: type) == nil else {
            throw failure(type, "it contains itself, neither optional nor in an array")
        }
        return try probe(type)
    }

    /// A reference to a type that is being decoded; nil for others.
    func reference(to type: Any.Type) -> Schema? {
        guard let index = open.firstIndex(where: { $0.type == ObjectIdentifier(type) }) else { return nil }
        open[index].isReferenced = true
        return reference(toDefinition: open[index].name)
    }

    private func reference(toDefinition name: String) -> Schema {
        [("$ref", JSON.string("#/$defs/\(name)"))]
    }

    func failure(_ type: Any.Type, _ reason: String) -> JSONSchemaError {
        JSONSchemaError(type: String(describing: type), path: path, reason: reason)
    }

    /// Decodes a value, and sees what it asks for.
    private func probe<T: Decodable>(_ type: T.Type) throws -> (Schema, T) {
        open.append(Open(type: ObjectIdentifier(type), name: String(describing: type)))
        let decoder = SchemaDecoder(builder: self)
        let value: T
        do {
            value = try T(from: decoder)
        } catch let error as JSONSchemaError {
            throw error
        } catch {
            throw failure(type, "it refuses an example value (\(error)); conform to JSONSchemaRepresentable")
        }
        let schema = decoder.notes.schema
        guard let ended = open.popLast(), ended.isReferenced else { return (schema, value) }
        definitions.append((ended.name, JSON.object(schema)))
        return (reference(toDefinition: ended.name), value)
    }

    private func selfDescribed<T: Decodable>(_ type: T.Type) throws -> (Schema, T)? {
        guard let described = type as? any JSONSchemaRepresentable.Type else { return nil }
        guard let value = described.schemaExample as? T else { return nil }
        // Its text stands as it is: a schema of its own, that all must hold.
        return ([("allOf", JSON.array([described.jsonSchema.json]))], value)
    }

    /// An enumeration with raw values that lists its cases.
    private func enumeration<T: Decodable>(_ type: T.Type) throws -> (Schema, T)? {
        guard let iterable = type as? any CaseIterable.Type, type is any RawRepresentable.Type else { return nil }
        let cases = allCases(of: iterable)
        let values = cases.compactMap { ($0 as? any RawRepresentable).flatMap { json(of: $0.rawValue) } }
        guard let first = cases.first as? T, values.count == cases.count else {
            throw failure(type, "its raw values are neither strings nor integers")
        }
        return ([("enum", JSON.array(values))], first)
    }

    private func allCases<T: CaseIterable>(of type: T.Type) -> [Any] { Array(type.allCases) }

    private func json(of rawValue: Any) -> String? {
        switch rawValue {
        case let text as String: JSON.string(text)
        case let number as any BinaryInteger: "\(number)"
        default: nil
        }
    }

    /// A type that JSON has itself, or that is written as a string.
    private func leaf<T>(_ type: T.Type) throws -> (Schema, T)? {
        let (schema, value): (Schema, Any?) =
            switch type {
            case is String.Type: ([("type", "\"string\"")], "")
            case is Bool.Type: ([("type", "\"boolean\"")], false)
            case is Double.Type: ([("type", "\"number\"")], 0.0)
            case is Float.Type: ([("type", "\"number\"")], Float(0))
            case is Decimal.Type: ([("type", "\"number\"")], Decimal(0))
            case is Date.Type: ([("type", "\"string\""), ("pattern", JSON.string(Self.date))], Date(timeIntervalSince1970: 0))
            case is URL.Type: ([("type", "\"string\""), ("format", "\"uri\"")], URL(string: "a:b"))
            case is UUID.Type: ([("type", "\"string\""), ("format", "\"uuid\"")], UUID())
            case let integer as any FixedWidthInteger.Type: (Self.integer(integer), zero(of: integer))
            case is Data.Type: throw failure(type, "base64 is no kind of string that a schema can tell")
            default: ([], nil)
            }
        return (value as? T).map { (schema, $0) }
    }

    private func zero<T: FixedWidthInteger>(of type: T.Type) -> Any { T.zero }

    private static func integer<T: FixedWidthInteger>(_ type: T.Type) -> Schema {
        var schema: Schema = [("type", "\"integer\"")]
        // Bounds of 64 bits are beyond what a double, and so many a reader of schemas, tells apart.
        if T.bitWidth <= 32 || !T.isSigned {
            schema.append(("minimum", "\(T.min)"))
        }
        if T.bitWidth <= 32 {
            schema.append(("maximum", "\(T.max)"))
        }
        return schema
    }

    /// What `.iso8601` of JSONDecoder reads: no fractions of seconds, in UTC.
    private static let date =
        "^[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|1[0-9]|2[0-8])T([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]Z$"
}

/// A type with values of one other type in it, and a value without any.
protocol SchemaContainer: Decodable {
    /// The schema with a given one for the values inside.
    static func schema(around inner: SchemaBuilder.Schema) -> SchemaBuilder.Schema
    associatedtype Inside: Decodable
    static func value(with inside: Inside?) -> Self
}

extension SchemaContainer {
    static func visit<T>(_ builder: SchemaBuilder, as type: T.Type) throws -> (SchemaBuilder.Schema, T) {
        let (inner, inside) = try inner(builder)
        guard let value = value(with: inside) as? T else { throw builder.failure(type, "it is not what it was") }
        return (schema(around: inner), value)
    }

    private static func inner(_ builder: SchemaBuilder) throws -> (SchemaBuilder.Schema, Inside?) {
        if let reference = builder.reference(to: Inside.self) {
            return (reference, nil)
        }
        let (schema, value) = try builder.visit(Inside.self)
        return (schema, value)
    }
}

extension Optional: SchemaContainer where Wrapped: Decodable {
    static func schema(around inner: SchemaBuilder.Schema) -> SchemaBuilder.Schema {
        [("anyOf", JSON.array([JSON.object(inner), JSON.object([("type", "\"null\"")])]))]
    }
    static func value(with inside: Wrapped?) -> Self { inside }
}

extension Array: SchemaContainer where Element: Decodable {
    static func schema(around inner: SchemaBuilder.Schema) -> SchemaBuilder.Schema {
        [("type", "\"array\""), ("items", JSON.object(inner))]
    }
    static func value(with inside: Element?) -> Self { inside.map { [$0] } ?? [] }
}

extension Set: SchemaContainer where Element: Decodable {
    static func schema(around inner: SchemaBuilder.Schema) -> SchemaBuilder.Schema {
        [("type", "\"array\""), ("items", JSON.object(inner))]
    }
    static func value(with inside: Element?) -> Self { inside.map { [$0] } ?? [] }
}

extension Dictionary: SchemaContainer where Key == String, Value: Decodable {
    static func schema(around inner: SchemaBuilder.Schema) -> SchemaBuilder.Schema {
        [("type", "\"object\""), ("additionalProperties", JSON.object(inner))]
    }
    static func value(with inside: Value?) -> Self { inside.map { ["key": $0] } ?? [:] }
}
