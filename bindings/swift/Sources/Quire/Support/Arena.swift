/// Memory for the arrays and strings that a C struct points to, freed all at once.
struct Arena: ~Copyable {
    private var blocks: [UnsafeMutableRawPointer] = []

    deinit {
        for block in blocks {
            block.deallocate()
        }
    }

    /// A copy of the elements; nil if there are none.
    mutating func copy<Element: BitwiseCopyable>(_ elements: some Collection<Element>) -> UnsafePointer<Element>? {
        guard !elements.isEmpty else { return nil }
        let copy = UnsafeMutableBufferPointer<Element>.allocate(capacity: elements.count)
        _ = copy.initialize(from: elements)
        guard let base = copy.baseAddress else { return nil }
        blocks.append(UnsafeMutableRawPointer(base))
        return UnsafePointer(base)
    }

    /// A copy of a string's UTF-8, without a NUL, and its length. Never nil: an empty string is not a missing one.
    mutating func copy(_ string: String) -> (UnsafePointer<CChar>?, Int) {
        var string = string
        return string.withUTF8 { utf8 in
            let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(utf8.count, 1), alignment: 1)
            copy.copyMemory(from: UnsafeRawBufferPointer(utf8))
            guard let base = copy.baseAddress else { return (nil, 0) }
            blocks.append(base)
            return (UnsafePointer(base.bindMemory(to: CChar.self, capacity: max(utf8.count, 1))), utf8.count)
        }
    }
}
