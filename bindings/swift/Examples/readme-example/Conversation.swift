import Quire

struct Weather: Tool {
    struct Arguments: Decodable {
        let city: String
    }

    let description = "Tells the weather of a city"

    func call(arguments: Arguments) async throws -> String {
        "sunny in \(arguments.city), 21 degrees"
    }
}

struct City: Decodable {
    let name: String
    let inhabitants: Int
    let rivers: [String]
}

func converse(on engine: Engine) async throws {
    let session = ChatSession(engine: engine, tools: [Weather()], instructions: "Answer in one sentence.")
    for try await event in session.streamResponse(to: "What should I wear in Lyon today?") {
        switch event {
        case .text(let delta): print(delta, terminator: "")
        case .reasoning: break
        case .toolCall(let call, _): print("[\(call.name) \(call.arguments)]")
        case .finished(let completion): print("\n\(completion.usage.cachedTokens) tokens were in the cache")
        }
    }
    let city = try await session.respond(to: "Tell me about that city.", generating: City.self)
    print(city.content.name, city.content.rivers)
}
