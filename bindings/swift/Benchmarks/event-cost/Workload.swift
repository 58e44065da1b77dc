import CQuire
import Foundation
import Quire

/// A copy of the mock model with steps that take a time of our choice; removed at the end.
final class MockModel {
    let path: String

    init(original: String, stepMicroseconds: Int) throws {
        path = NSTemporaryDirectory() + "/event-cost-\(UUID().uuidString)"
        try FileManager.default.copyItem(atPath: original, toPath: path)
        let file = path + "/config.json"
        let config = try String(contentsOfFile: file, encoding: .utf8)
        let slow = config.replacingOccurrences(of: "\"mock\": {}", with: "\"mock\": {\"step_micros\": \(stepMicroseconds)}")
        try slow.write(toFile: file, atomically: true, encoding: .utf8)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: path)
    }
}

/// So many streams at a time, each of so many answers one after another.
struct Workload {
    let streams: Int
    let answers: Int
    let tokens: Int

    var tokenCount: Int { streams * answers * tokens }

    private static let prompt: [UInt32] = [10, 20, 30, 40, 50]

    /// Reads every event of a ``ResponseStream`` and returns how many there were.
    func runInSwift(model: String) async throws -> Int {
        let engine = try await Engine(model: model)
        let options = GenerationOptions(maximumResponseTokens: tokens, ignoresEndOfSequence: true)
        let events = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<streams {
                group.addTask {
                    var events = 0
                    for _ in 0..<answers {
                        for try await _ in engine.stream(.tokens(Self.prompt), options: options) {
                            events += 1
                        }
                    }
                    return events
                }
            }
            return try await group.reduce(0, +)
        }
        try await engine.shutdown()
        return events
    }

    /// The same against the C API, by a callback that counts and starts the next answer.
    func runInC(model: String) throws -> Int {
        let counter = Counter(workload: self)
        var options = quire_engine_options()
        try check(quire_engine_options_init(&options, MemoryLayout<quire_engine_options>.stride, nil))
        options.on_event = { counter, event in
            guard let counter, let event else { return }
            Unmanaged<Counter>.fromOpaque(counter).takeUnretainedValue().count(event.pointee)
        }
        options.on_event_data = Unmanaged.passUnretained(counter).toOpaque()
        try model.withCString { path in
            (options.model, options.model_len) = (path, strlen(path))
            try check(quire_engine_create(&options, &counter.engine, nil))
        }
        for _ in 0..<streams {
            counter.submit()
        }
        counter.done.wait()
        try check(quire_engine_release(counter.engine, nil))
        return counter.events
    }

    /// Touched by the dispatcher thread alone, once the first requests are submitted.
    private final class Counter {
        let workload: Workload
        var engine: OpaquePointer?
        var events = 0
        var ended = 0
        let done = DispatchSemaphore(value: 0)

        init(workload: Workload) {
            self.workload = workload
        }

        func submit() {
            var request = quire_request_options()
            quire_request_options_init(&request, MemoryLayout<quire_request_options>.stride, nil)
            (request.max_tokens, request.ignore_eos) = (UInt32(workload.tokens), 1)
            Workload.prompt.withUnsafeBufferPointer { prompt in
                (request.prompt_tokens, request.prompt_token_count) = (prompt.baseAddress, prompt.count)
                var id: UInt64 = 0
                let status = quire_engine_submit(engine, &request, &id, nil)
                precondition(status == QUIRE_OK, "submit: \(status)")
            }
        }

        func count(_ event: borrowing quire_event) {
            events += 1
            guard event.kind != QUIRE_EVENT_DELTA else { return }
            ended += 1
            let total = workload.streams * workload.answers
            if ended + workload.streams <= total {
                submit()
            }
            if ended == total {
                done.signal()
            }
        }
    }

    private func check(_ status: quire_status) throws {
        if status != QUIRE_OK {
            throw QuireError(.internal, String(cString: quire_status_name(status)))
        }
    }
}
