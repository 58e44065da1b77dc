import Foundation
import Testing

@testable import Quire

/// The models that the tests run on. Like the C tests, they are told by the environment: `QUIRE_TEST_DATA` is the
/// repository's tests/data, `QUIRE_TEST_MODEL` what `QUIRE_TEST_BUILD` ("mock" or "mlx") of the library runs.
enum TestModel {
    static let isMock = environment("QUIRE_TEST_BUILD") == "mock"
    static let path = environment("QUIRE_TEST_MODEL")

    static func environment(_ name: String) -> String {
        guard let value = ProcessInfo.processInfo.environment[name] else {
            fatalError("\(name) is not set: run the tests with `make test-swift`")
        }
        return value
    }
}

/// A copy of the mock model in a temporary folder of its own, to steer and to damage. Removed with the last reference.
final class ModelCopy: Sendable {
    let directory: URL
    var path: String { directory.path }

    /// `mock` is the object in config.json that steers the mock; `template` a chat template.
    init(mock: String = "{}", template: String? = nil) throws {
        let name = "quire-swift-\(UUID().uuidString)"
        directory = FileManager.default.temporaryDirectory.appendingPathComponent(name)
        let original = URL(fileURLWithPath: TestModel.environment("QUIRE_TEST_DATA")).appendingPathComponent("mock-model")
        try FileManager.default.copyItem(at: original, to: directory)
        try replace("\"mock\": {}", with: "\"mock\": \(mock)", in: "config.json")
        if let template {
            try write(Data(template.utf8), to: "chat_template.jinja")
        }
    }

    deinit {
        try? FileManager.default.removeItem(at: directory)
    }

    func write(_ data: Data, to file: String) throws {
        try data.write(to: directory.appendingPathComponent(file))
    }

    func remove(_ file: String) throws {
        try FileManager.default.removeItem(at: directory.appendingPathComponent(file))
    }

    func replace(_ old: String, with new: String, in file: String) throws {
        let url = directory.appendingPathComponent(file)
        var data = try Data(contentsOf: url)
        guard let range = data.range(of: Data(old.utf8)) else { throw NotThere(text: old, file: file) }
        data.replaceSubrange(range, with: Data(new.utf8))
        try data.write(to: url)
    }

    struct NotThere: Error {
        let text: String
        let file: String
    }
}

extension Engine {
    /// An engine on a copy, which it needs only while it loads.
    convenience init(on copy: ModelCopy, options: EngineOptions = EngineOptions()) async throws {
        try await self.init(model: copy.path, options: options)
        withExtendedLifetime(copy) {}
    }
}

extension Trait where Self == ConditionTrait {
    /// For what only the mock can be steered to do. In its place MLX runs a tiny model of random weights.
    static var mockOnly: Self { .enabled(if: TestModel.isMock, "the library is not the mock build") }
}

/// A prompt that every model takes.
let somePrompt = Prompt(tokens: [10, 20, 30, 40, 50])

extension GenerationOptions {
    /// Exactly this many tokens.
    static func tokens(_ count: Int) -> GenerationOptions {
        GenerationOptions(maximumResponseTokens: count, ignoresEndOfSequence: true)
    }
}
