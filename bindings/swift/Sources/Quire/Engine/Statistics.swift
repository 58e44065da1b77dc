import CQuire

/// What an engine does and has done: a snapshot.
public struct Statistics: Sendable, Hashable {
    /// Requests accepted since the engine was made.
    public let acceptedRequests: Int
    /// Of these, finished.
    public let finishedRequests: Int
    /// Of these, cancelled.
    public let cancelledRequests: Int
    /// Of these, failed.
    public let failedRequests: Int
    /// Requests running now.
    public let runningRequests: Int
    /// Requests waiting now.
    public let waitingRequests: Int
    /// Steps run.
    public let steps: Int
    /// Prompt tokens that came in.
    public let promptTokens: Int
    /// Prompt tokens whose pages were reused instead of computed.
    public let cachedTokens: Int
    /// Tokens generated.
    public let generatedTokens: Int
    /// Requests that found at least one token of theirs in the cache.
    public let prefixHits: Int
    /// Times a running request was put aside for lack of pages, to be computed again later.
    public let preemptions: Int
    /// Pages in the cache: those free, those kept for reuse and those in use.
    public let totalPages: Int
    /// Pages that hold nothing.
    public let freePages: Int
    /// Pages that no request uses and a later one may reuse.
    public let cachedPages: Int
    /// Pages that running requests use.
    public let usedPages: Int
    /// Pages that were taken for new content.
    public let allocatedPages: Int
    /// Times a page was shared instead of computed anew.
    public let sharedPages: Int
    /// Cached pages that were given up for new content.
    public let evictedPages: Int
    /// Bytes of weights as held.
    public let weightBytes: Int
    /// Bytes of the cache.
    public let cacheBytes: Int
    /// Most bytes the model's allocator ever held.
    public let peakBytes: Int
}

extension Statistics {
    init(of engine: OpaquePointer) throws {
        var raw = quire_statistics()
        raw.struct_size = MemoryLayout<quire_statistics>.stride
        try check { quire_engine_statistics(engine, &raw, $0) }
        self.init(
            acceptedRequests: Int(clamping: raw.requests_accepted),
            finishedRequests: Int(clamping: raw.requests_finished),
            cancelledRequests: Int(clamping: raw.requests_cancelled),
            failedRequests: Int(clamping: raw.requests_failed),
            runningRequests: Int(clamping: raw.requests_running),
            waitingRequests: Int(clamping: raw.requests_waiting),
            steps: Int(clamping: raw.steps),
            promptTokens: Int(clamping: raw.prompt_tokens),
            cachedTokens: Int(clamping: raw.cached_tokens),
            generatedTokens: Int(clamping: raw.generated_tokens),
            prefixHits: Int(clamping: raw.prefix_hits),
            preemptions: Int(clamping: raw.preemptions),
            totalPages: Int(clamping: raw.blocks_total),
            freePages: Int(clamping: raw.blocks_free),
            cachedPages: Int(clamping: raw.blocks_cached),
            usedPages: Int(clamping: raw.blocks_in_use),
            allocatedPages: Int(clamping: raw.blocks_allocated),
            sharedPages: Int(clamping: raw.blocks_shared),
            evictedPages: Int(clamping: raw.blocks_evicted),
            weightBytes: Int(clamping: raw.weight_bytes),
            cacheBytes: Int(clamping: raw.cache_bytes),
            peakBytes: Int(clamping: raw.peak_bytes)
        )
    }
}
