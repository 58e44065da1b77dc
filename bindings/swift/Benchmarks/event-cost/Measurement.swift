import Foundation

/// What a run took.
struct Measurement: CustomStringConvertible {
    let events: Int
    let time: Duration
    /// Of all threads, the engine's included.
    let processorTime: Duration

    var microsecondsEach: Double {
        let microseconds: Double = processorTime / .microseconds(1)
        return microseconds / Double(events)
    }

    var description: String {
        let each = String(format: "%.2f us of processor time each", microsecondsEach)
        let seconds = String(format: "%.1f s", time / .seconds(1))
        return "\(events) events in \(seconds), \(each)"
    }
}

/// Measures a run that returns the number of its events.
func measure(_ run: () throws -> Int) rethrows -> Measurement {
    let (start, used) = (ContinuousClock.now, processorTime())
    let events = try run()
    return Measurement(events: events, time: .now - start, processorTime: processorTime() - used)
}

func measure(_ run: () async throws -> Int) async rethrows -> Measurement {
    let (start, used) = (ContinuousClock.now, processorTime())
    let events = try await run()
    return Measurement(events: events, time: .now - start, processorTime: processorTime() - used)
}

private func processorTime() -> Duration {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return .seconds(time.tv_sec) + .nanoseconds(time.tv_nsec)
}
