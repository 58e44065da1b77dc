import Foundation
import Testing

/// The tutorial's code is the program of Examples/readme-example, which is compiled, at its stages.
@Suite struct DocumentationTests {
    private static let package = URL(fileURLWithPath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    private static func lines(of file: String) throws -> [String] {
        try String(contentsOf: package.appendingPathComponent(file), encoding: .utf8).components(separatedBy: "\n")
    }

    @Test func theTutorialEndsWithAProgramThatRuns() throws {
        let program = try Self.lines(of: "Examples/readme-example/main.swift")
        let resources = "Sources/Quire/Quire.docc/Resources"
        #expect(try Self.lines(of: "\(resources)/first-token-4.swift") == program)
        for step in 1...3 {
            let lines = try Self.lines(of: "\(resources)/first-token-\(step).swift").dropLast()
            #expect(lines.count >= 3)
            #expect(Array(program.prefix(lines.count)) == Array(lines), "step \(step)")
        }
    }

    @Test func nothingThatADependentResolvesIsUnsafe() throws {
        let manifest = try Self.lines(of: "Package.swift").joined(separator: "\n")
        #expect(!manifest.contains("unsafeFlags"))
        #expect(manifest.contains("swiftLanguageModes: [.v6]"))
    }
}
