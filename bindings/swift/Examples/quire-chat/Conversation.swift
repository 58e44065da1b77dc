import Foundation
import Quire

/// Reads lines, and answers them.
actor Conversation {
    nonisolated let engine: Engine
    private let session: ChatSession
    private let options: GenerationOptions
    private let terminal: Terminal
    private let reply = Reply()
    private var last: Completion?

    init(engine: Engine, arguments: Arguments, terminal: Terminal) {
        self.engine = engine
        self.terminal = terminal
        options = arguments.options
        session = ChatSession(engine: engine, instructions: arguments.instructions)
    }

    /// Until the input ends, or /quit.
    func run() async {
        terminal.aside("\(engine.modelInfo.architecture) on \(engine.modelInfo.device). /help for help.\n")
        while true {
            terminal.write("> ")
            guard let line = readLine() else { break }
            switch line.trimmingCharacters(in: .whitespaces) {
            case "": continue
            case "/quit": return
            case "/reset": session.reset()
            case "/stats": showStatistics()
            case "/help": terminal.aside("/reset forgets what was said, /stats, /quit; Ctrl-C ends a reply\n")
            case let command where command.hasPrefix("/"): terminal.aside("there is no \(command); see /help\n")
            case let prompt: await answer(prompt)
            }
        }
        terminal.write("\n")
    }

    /// Ctrl-C: ends the reply, or the program if there is none.
    nonisolated func interrupt() {
        if !reply.cancel() {
            let engine = engine
            Task {
                try? await engine.shutdown()
                exit(130)
            }
        }
    }

    private func answer(_ prompt: String) async {
        let stream = session.streamResponse(to: prompt, options: options)
        reply.begin(stream)
        defer { reply.end() }
        do {
            for try await event in stream {
                switch event {
                case .text(let delta): terminal.write(delta.text)
                case .reasoning(let delta): terminal.aside(delta.text)
                case .toolCall(let call, _): terminal.aside("[\(call.name) \(call.arguments)]")
                case .finished(let completion): finish(completion)
                }
            }
        } catch {
            terminal.fail("\(error)")
        }
    }

    private func finish(_ completion: Completion) {
        last = completion
        switch completion.finishReason {
        case .cancelled: terminal.aside(" [ended]\n")
        case .length: terminal.aside(" [cut off; see --max-tokens]\n")
        default: terminal.write("\n")
        }
    }

    private func showStatistics() {
        if let last {
            let firstToken = last.timings.firstToken.map { "\(Int($0 / .milliseconds(1))) ms to the first token" }
            let speed = last.timings.tokensPerSecond(last.usage).map { String(format: "%.1f tokens/s", $0) }
            let tokens = "\(last.usage.promptTokens) prompt tokens, \(last.usage.cachedTokens) of them cached"
            let parts = [tokens, "\(last.usage.generatedTokens) generated", firstToken, speed]
            terminal.aside("last reply: \(parts.compactMap { $0 }.joined(separator: ", "))\n")
        }
        let all = engine.statistics
        terminal.aside("engine: \(all.acceptedRequests) requests, \(all.generatedTokens) tokens generated, ")
        terminal.aside("\(all.cachedPages + all.usedPages) of \(all.totalPages) pages in use or cached\n")
    }
}

/// The reply that is on its way, where Ctrl-C finds it.
final class Reply: @unchecked Sendable {
    // Under the lock.
    private var stream: ChatResponseStream?
    private let lock = NSLock()

    func begin(_ stream: ChatResponseStream) {
        lock.withLock { self.stream = stream }
    }

    func end() {
        lock.withLock { stream = nil }
    }

    /// False if there is none.
    func cancel() -> Bool {
        let stream = lock.withLock { self.stream }
        stream?.cancel()
        return stream != nil
    }
}
