import Observation
import Quire

/// What the window shows: a model, once it has been loaded, and a conversation with it.
@MainActor
@Observable
final class Chat {
    struct Message: Identifiable {
        let id: Int
        let isFromUser: Bool
        var text: String
    }

    private(set) var messages: [Message] = []
    /// What is being done, or what went wrong.
    private(set) var status = "Choose a model: a folder, or a GGUF file."
    private(set) var isResponding = false

    private var session: ChatSession?
    private var reply: Task<Void, Never>?

    var isReady: Bool { session != nil }

    func load(model: String) async {
        session = nil
        status = "Loading…"
        do {
            let engine = try await Engine(model: model) { progress in
                Task { @MainActor [weak self] in self?.show(progress) }
            }
            session = ChatSession(engine: engine)
            messages = []
            status = "\(engine.modelInfo.architecture) on \(engine.modelInfo.device)"
        } catch {
            status = "\(error)"
        }
    }

    func send(_ prompt: String) {
        guard let session, !isResponding else { return }
        append(prompt, isFromUser: true)
        append("", isFromUser: false)
        isResponding = true
        reply = Task {
            do {
                for try await event in session.streamResponse(to: prompt) {
                    show(event)
                }
            } catch is CancellationError {
                status = "Stopped; the model will not remember this."
            } catch {
                status = "\(error)"
            }
            isResponding = false
        }
    }

    /// Cancelling the task that reads an answer is all it takes to end it.
    func stop() {
        reply?.cancel()
    }

    func reset() {
        stop()
        session?.reset()
        messages = []
    }

    /// An app in the background must leave the GPU alone.
    func setActive(_ isActive: Bool) {
        guard let engine = session?.engine else { return }
        Task {
            do {
                if isActive {
                    try engine.resume()
                } else {
                    try await engine.suspend()
                }
            } catch {
                status = "\(error)"
            }
        }
    }

    private func show(_ progress: LoadingProgress) {
        if session == nil {
            status = "\(progress.stage) \(Int(progress.fraction * 100))%"
        }
    }

    private func show(_ event: GenerationEvent) {
        switch event {
        case .text(let delta):
            // None are left if the conversation was reset meanwhile.
            if let last = messages.indices.last {
                messages[last].text += delta.text
            }
        case .reasoning, .toolCall:
            break
        case .finished(let completion):
            let speed = completion.timings.tokensPerSecond(completion.usage).map { " at \(Int($0)) tokens/s" } ?? ""
            status = "\(completion.usage.generatedTokens) tokens\(speed)"
        }
    }

    private func append(_ text: String, isFromUser: Bool) {
        messages.append(Message(id: messages.count, isFromUser: isFromUser, text: text))
    }
}
