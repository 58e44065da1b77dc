import Quire

/// What the command line says.
struct Arguments {
    var model = ""
    var instructions: String?
    var options = GenerationOptions(maximumResponseTokens: 1024)

    static let usage = """
        usage: quire-chat --model MODEL [--system TEXT] [--temperature T] [--max-tokens N] [--thinking on|off]
        """

    struct Problem: Error, CustomStringConvertible {
        let description: String
    }

    init(_ words: some Sequence<String>) throws {
        var words = words.makeIterator()
        while let name = words.next() {
            guard let value = words.next() else { throw Problem(description: "\(name) needs a value") }
            switch name {
            case "--model": model = value
            case "--system": instructions = value
            case "--temperature": options.temperature = try number(value, name)
            case "--max-tokens": options.maximumResponseTokens = try number(value, name)
            case "--thinking" where value == "on": options.thinking = .on
            case "--thinking" where value == "off": options.thinking = .off
            default: throw Problem(description: "unknown: \(name) \(value)")
            }
        }
        guard !model.isEmpty else { throw Problem(description: "--model is missing") }
    }

    private func number<Number: LosslessStringConvertible>(_ value: String, _ name: String) throws -> Number {
        guard let number = Number(value) else { throw Problem(description: "\(name): '\(value)' is no number") }
        return number
    }
}
