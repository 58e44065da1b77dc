/// Memory for the arrays and strings that a C struct points to, there for as long as the call that takes it.
final class Arena {
    private var blocks: [UnsafeMutableRawPointer] = []

    private init() {}

    static func use<Result>(_ body: (Arena) throws -> Result) rethrows -> Result {
        let arena = Arena()
        defer { arena.blocks.forEach { $0.deallocate() } }
        return try body(arena)
    }

    /// A copy of the elements; nil if there are none.
    func copy<Element: BitwiseCopyable>(_ elements: some Collection<Element>) -> UnsafePointer<Element>? {
        guard !elements.isEmpty else { return nil }
        let copy = UnsafeMutableBufferPointer<Element>.allocate(capacity: elements.count)
        _ = copy.initialize(from: elements)
        guard let base = copy.baseAddress else { return nil }
        blocks.append(UnsafeMutableRawPointer(base))
        return UnsafePointer(base)
    }

    /// A copy of a string's UTF-8, without a NUL, and its length. Never nil: an empty string is not a missing one.
    func copy(_ string: String) -> (UnsafePointer<CChar>?, Int) {
        var string = string
        return string.withUTF8 { utf8 in
            let copy = UnsafeMutablePointer<CChar>.allocate(capacity: max(utf8.count, 1))
            blocks.append(UnsafeMutableRawPointer(copy))
            utf8.withMemoryRebound(to: CChar.self) { bytes in
                copy.initialize(from: bytes.baseAddress ?? UnsafePointer(copy), count: bytes.count)
            }
            return (UnsafePointer(copy), utf8.count)
        }
    }
}
