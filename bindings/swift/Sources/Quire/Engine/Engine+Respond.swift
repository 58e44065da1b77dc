extension Engine {
    /// Returns the whole answer.
    public func respond(
        to prompt: some PromptRepresentable,
        options: GenerationOptions = GenerationOptions()
    ) async throws -> Response<String> {
        try await stream(prompt, options: options).collect()
    }

    /// Returns the answer as a value of `type`: the model can write nothing but JSON that `schema` allows. If that is
    /// nil, it is derived from the type: see ``JSONSchema/init(for:)``.
    ///
    /// Throws ``ResponseDecodingError`` if the answer is not such a value, which happens where it is cut off by
    /// ``GenerationOptions/maximumResponseTokens``.
    public func respond<Value: Decodable & Sendable>(
        to prompt: some PromptRepresentable,
        generating type: Value.Type = Value.self,
        schema: JSONSchema? = nil,
        options: GenerationOptions = GenerationOptions()
    ) async throws -> Response<Value> {
        var options = options
        options.grammar = .jsonSchema(try schema ?? JSONSchema(for: type))
        return try await respond(to: prompt, options: options).decoded(as: type)
    }
}
