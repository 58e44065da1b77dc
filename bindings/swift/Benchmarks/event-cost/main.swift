// What the Swift layer adds to an event: the same requests on the mock engine, once with a C callback that only counts
// and once through ResponseStreams, all events read. `cargo xtask swift-cost` builds and runs it.
//
//     event-cost MOCK-MODEL [EVENTS]

import Foundation
import Quire

/// 16 streams at a time, of answers this long: the mock reads the whole context for each token, and longer ones would
/// measure that.
let streams = 16
let tokensPerAnswer = 500

let arguments = CommandLine.arguments
guard arguments.count >= 2 else {
    print("usage: event-cost MOCK-MODEL [EVENTS]")
    exit(2)
}
let events = arguments.count > 2 ? Int(arguments[2]) ?? 0 : 1_000_000
let answersPerStream = max(1, events / (streams * tokensPerAnswer))

// A step every 200 us: fast enough to count, slow enough that no event is joined to another.
let model = try MockModel(original: arguments[1], stepMicroseconds: 200)

let workload = Workload(streams: streams, answers: answersPerStream, tokens: tokensPerAnswer)
let callback = try measure { try workload.runInC(model: model.path) }
let swift = try await measure { try await workload.runInSwift(model: model.path) }

print("16 streams, \(workload.tokenCount) tokens, a step every 200 us")
print("  C callback:  \(callback)")
print("  Swift:       \(swift)")
let added = swift.microsecondsEach - callback.microsecondsEach
print("the Swift layer adds \(String(format: "%.2f", added)) us of processor time to an event")
exit(added < 20 ? 0 : 1)
