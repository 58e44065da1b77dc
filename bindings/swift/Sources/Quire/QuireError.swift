import CQuire

#if canImport(FoundationEssentials)
import FoundationEssentials
#else
import Foundation
#endif

/// What the library refuses or fails at: a code to branch on, and a message for people that names the file, field or
/// argument.
public struct QuireError: Error, Sendable, Hashable {
    /// One for each status of the C library.
    public enum Code: Sendable, Hashable {
        /// An argument is out of range, empty, or contradicts another; the message names it.
        case invalidArgument
        /// The package and the library it runs with do not fit each other.
        case invalidStructSize
        /// A string is not valid UTF-8.
        case invalidUTF8
        /// The model's path or name leads nowhere.
        case modelNotFound
        /// A file of the model is malformed, truncated or inconsistent; the message names file and field.
        case modelInvalid
        /// The model is sound, but of an architecture, quantization or format that is not supported.
        case modelUnsupported
        /// The call needs text and the model came without a tokenizer.
        case tokenizerMissing
        /// The tokenizer's files are malformed.
        case tokenizerInvalid
        /// The prompt and the tokens asked for do not fit into the context, or into the whole cache.
        case promptTooLong
        /// Too many requests are live; try again later.
        case queueFull
        /// Memory ran out, on the host or the device.
        case outOfMemory
        /// What the call names is not there (any more).
        case notFound
        /// The time given ran out first.
        case timeout
        /// The engine has been shut down.
        case shutDown
        /// Loading was stopped.
        case aborted
        /// The device failed; the requests in flight failed with it, the engine goes on.
        case deviceError
        /// The call is not allowed here or now.
        case invalidState
        /// A file could not be read or written.
        case io
        /// The request's own deadline passed before it was done.
        case deadlineExceeded
        /// A defect of the library.
        case `internal`
        /// A saved cache is damaged, or was saved for another model or version.
        case cacheInvalid
        /// The call needs a chat template and the model has none.
        case templateMissing
        /// The model's chat template is malformed, refuses the conversation, or does too much work.
        case templateError
        /// A grammar or schema is malformed, allows no text, or is too complex; the message says what is wrong.
        case grammarInvalid
        /// A status of a newer library.
        case unknown(Int32)
    }

    public let code: Code
    /// In English.
    public let message: String

    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }
}

extension QuireError.Code {
    init(status: quire_status) {
        self =
            switch status {
            case QUIRE_INVALID_ARGUMENT: .invalidArgument
            case QUIRE_INVALID_STRUCT_SIZE: .invalidStructSize
            case QUIRE_INVALID_UTF8: .invalidUTF8
            case QUIRE_MODEL_NOT_FOUND: .modelNotFound
            case QUIRE_MODEL_INVALID: .modelInvalid
            case QUIRE_MODEL_UNSUPPORTED: .modelUnsupported
            case QUIRE_TOKENIZER_MISSING: .tokenizerMissing
            case QUIRE_TOKENIZER_INVALID: .tokenizerInvalid
            case QUIRE_PROMPT_TOO_LONG: .promptTooLong
            case QUIRE_QUEUE_FULL: .queueFull
            case QUIRE_OUT_OF_MEMORY: .outOfMemory
            case QUIRE_NOT_FOUND: .notFound
            case QUIRE_TIMEOUT: .timeout
            case QUIRE_SHUT_DOWN: .shutDown
            case QUIRE_ABORTED: .aborted
            case QUIRE_DEVICE_ERROR: .deviceError
            case QUIRE_INVALID_STATE: .invalidState
            case QUIRE_IO: .io
            case QUIRE_DEADLINE_EXCEEDED: .deadlineExceeded
            case QUIRE_INTERNAL: .internal
            case QUIRE_CACHE_INVALID: .cacheInvalid
            case QUIRE_TEMPLATE_MISSING: .templateMissing
            case QUIRE_TEMPLATE_ERROR: .templateError
            case QUIRE_GRAMMAR_INVALID: .grammarInvalid
            default: .unknown(status)
            }
    }
}

extension QuireError: CustomStringConvertible, LocalizedError {
    public var description: String { "\(code): \(message)" }
    public var errorDescription: String? { message }
}

/// Calls into the library; what it refuses is thrown.
func check(_ call: (UnsafeMutablePointer<OpaquePointer?>) -> quire_status) throws {
    var error: OpaquePointer?
    let status = call(&error)
    defer { quire_error_free(error) }
    if status != QUIRE_OK {
        throw QuireError(QuireError.Code(status: status), String(cString: quire_error_message(error)))
    }
}

/// A number as the library's integer type, or an error that names it.
func fitting<Value: FixedWidthInteger>(_ number: Int, _ name: String, as: Value.Type = Value.self) throws -> Value {
    guard let value = Value(exactly: number) else {
        throw QuireError(.invalidArgument, "\(name) is \(number), want a number from \(Value.min) to \(Value.max)")
    }
    return value
}
