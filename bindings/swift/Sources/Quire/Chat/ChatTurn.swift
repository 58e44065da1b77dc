/// One turn of a conversation: a prompt, and all the requests and tool calls that its answer takes.
///
/// It moves only while somebody reads it.
actor ChatTurn {
    private let session: ChatSession
    private let options: GenerationOptions
    /// A model that calls tools for ever is stopped here.
    private static let maximumRounds = 32

    private enum Phase {
        case begun(ChatSession.Beginning)
        case ended
        case refused(any Error)
    }

    private var phase: Phase
    private var isReading = false
    /// What is to be recorded.
    private var entries: [Transcript.Entry]
    /// The request that runs, and what it has said.
    private var answer = ResponseBuilder()
    private var rounds = 0
    private var completion: Completion?

    /// The request that runs, where a cancel can reach it.
    private struct Running {
        var stream: ResponseStream?
        var isCancelled = false
    }

    private let running: Locked<Running>

    init(session: ChatSession, prompt: String, options: GenerationOptions) {
        self.session = session
        self.options = options
        let entries = [Transcript.Entry.prompt(prompt)]
        self.entries = entries
        do {
            let beginning = try session.begin()
            let stream = Self.request(session, beginning.transcript.entries + entries, options)
            phase = .begun(beginning)
            running = Locked(Running(stream: stream))
        } catch {
            phase = .refused(error)
            running = Locked(Running())
        }
    }

    deinit {
        if case .begun(let beginning) = phase {
            session.end(beginning)
        }
    }

    nonisolated func cancel() {
        let stream = running.withLock { running in
            running.isCancelled = true
            return running.stream
        }
        stream?.cancel()
    }

    func next() async throws -> GenerationEvent? {
        guard !isReading else { throw QuireError(.invalidState, "an answer is read by one task at a time") }
        isReading = true
        defer { isReading = false }
        do {
            return try await advance()
        } catch {
            if case .begun(let beginning) = phase {
                session.end(beginning)
                phase = .ended
            }
            running.withLock { $0.stream = nil }
            throw error
        }
    }

    private func advance() async throws -> GenerationEvent? {
        switch phase {
        case .ended: return nil
        case .refused(let error): throw error
        case .begun(let beginning):
            while let event = try await running.withLock({ $0.stream })?.nextEvent() {
                answer.add(event)
                guard case .finished(let last) = event else { return event }
                completion = completion?.followed(by: last) ?? last
                if try await callTools(after: last, beginning) {
                    continue
                }
                phase = .ended
                session.end(beginning, recording: entries)
                return completion.map { .finished($0) }
            }
            throw QuireError(.internal, "the events ended without one that says so")
        }
    }

    /// Records what the model said and, if it called tools, runs them and goes on; false if that was all.
    private func callTools(after last: Completion, _ beginning: ChatSession.Beginning) async throws -> Bool {
        let said = answer
        answer = ResponseBuilder()
        guard !said.toolCalls.isEmpty else {
            entries.append(.response(said.text, reasoning: said.reasoning))
            return false
        }
        entries.append(.toolCalls(said.toolCalls, text: said.text, reasoning: said.reasoning))
        guard last.finishReason != .cancelled, !session.tools.isEmpty else { return false }
        rounds += 1
        guard rounds < Self.maximumRounds else {
            throw QuireError(.invalidState, "the model called tools \(rounds) times without an answer")
        }
        for call in said.toolCalls {
            try Task.checkCancellation()
            entries.append(.toolOutput(try await session.tools.output(for: call), toolName: call.name))
        }
        let stream = Self.request(session, beginning.transcript.entries + entries, options)
        let isCancelled = running.withLock { running in
            running.stream = stream
            return running.isCancelled
        }
        if isCancelled {
            stream.cancel()
        }
        return true
    }

    private static func request(
        _ session: ChatSession, _ entries: [Transcript.Entry], _ options: GenerationOptions
    ) -> ResponseStream {
        ResponseStream.starting {
            let tools = try session.tools.map { try $0.definition }
            let prompt = Prompt(Transcript(entries), tools: tools)
            return session.engine.stream(prompt, options: options)
        }
    }
}

extension Completion {
    /// The two requests of one answer as one.
    fileprivate func followed(by next: Completion) -> Completion {
        Completion(
            finishReason: next.finishReason,
            usage: Usage(
                promptTokens: usage.promptTokens + next.usage.promptTokens,
                cachedTokens: usage.cachedTokens + next.usage.cachedTokens,
                generatedTokens: usage.generatedTokens + next.usage.generatedTokens
            ),
            timings: Timings(
                queued: timings.queued,
                firstToken: timings.firstToken,
                total: timings.total + next.timings.total
            )
        )
    }
}
