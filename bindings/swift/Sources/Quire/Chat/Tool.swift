/// Something the model may ask for while it answers: a search, a sensor, a calculation.
public protocol Tool<Arguments, Output>: Sendable {
    /// What the model gives.
    associatedtype Arguments: Decodable & Sendable
    /// What it gets: a string as it is, anything else as JSON.
    associatedtype Output: Encodable & Sendable

    /// The name the model calls. The type's name by default.
    var name: String { get }
    /// What it does and when to call it, for the model.
    var description: String { get }
    /// What the arguments look like. Derived from the type by default: see ``JSONSchema/init(for:)``.
    var parameters: JSONSchema { get throws }

    /// Does it. What this throws ends the answer, as a ``ToolCallError``.
    func call(arguments: Arguments) async throws -> Output
}

extension Tool {
    public var name: String { String(describing: Self.self) }

    public var parameters: JSONSchema {
        get throws { try JSONSchema(for: Arguments.self) }
    }
}

/// What a model is told of a tool.
public struct ToolDefinition: Sendable, Hashable {
    public var name: String
    public var description: String
    /// What the arguments look like: a schema of an object.
    public var parameters: JSONSchema

    public init(name: String, description: String, parameters: JSONSchema) {
        self.name = name
        self.description = description
        self.parameters = parameters
    }

    /// How the library is told of it.
    var json: String {
        let function = JSON.object([
            ("name", JSON.string(name)),
            ("description", JSON.string(description)),
            ("parameters", parameters.json),
        ])
        return JSON.object([("type", "\"function\""), ("function", function)])
    }
}

/// A tool that failed.
public struct ToolCallError: Error, Sendable {
    public let tool: any Tool
    /// What it threw.
    public let underlyingError: any Error
}

extension Tool {
    /// What the model is told of it.
    public var definition: ToolDefinition {
        get throws { ToolDefinition(name: name, description: description, parameters: try parameters) }
    }

    /// Calls it with what the model wrote, and returns what the model gets. Arguments that are none are the model's
    /// mistake, and so it is told.
    func output(for json: String) async throws -> String {
        let arguments: Arguments
        do {
            arguments = try JSON.decode(Arguments.self, from: json)
        } catch {
            return "error: the arguments are not what the tool takes: \(error)"
        }
        do {
            let output = try await call(arguments: arguments)
            return try output as? String ?? JSON.encode(output)
        } catch let error as CancellationError {
            throw error
        } catch {
            throw ToolCallError(tool: self, underlyingError: error)
        }
    }
}

extension [any Tool] {
    /// What the model gets for a call.
    func output(for call: ToolCall) async throws -> String {
        guard let tool = first(where: { $0.name == call.name }) else {
            let names = map(\.name).joined(separator: ", ")
            return "error: there is no tool named \(call.name); there are: \(names)"
        }
        return try await tool.output(for: call.arguments)
    }
}
