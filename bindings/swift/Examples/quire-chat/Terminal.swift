import Foundation

/// What is written where. Nothing is held back: a reply is seen as it comes.
struct Terminal: Sendable {
    private let isInteractive = isatty(1) != 0

    func write(_ text: String) {
        FileHandle.standardOutput.write(Data(text.utf8))
    }

    /// What is not the reply itself.
    func aside(_ text: String) {
        write(isInteractive ? "\u{1B}[2m\(text)\u{1B}[0m" : text)
    }

    /// A line that the next one replaces.
    func status(_ text: String) {
        if isatty(2) != 0 {
            FileHandle.standardError.write(Data("\r\u{1B}[K\(text)".utf8))
        }
    }

    func fail(_ text: String) {
        FileHandle.standardError.write(Data("quire-chat: \(text)\n".utf8))
    }
}
