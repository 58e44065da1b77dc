/// What an answer must look like. An answer that is cut off is the beginning of such a text.
public enum Grammar: Sendable, Hashable {
    /// JSON that the schema validates.
    case jsonSchema(JSONSchema)
    /// Any JSON object.
    case jsonObject
    /// A text that matches the regular expression as a whole, in the syntax of Rust's regex crate.
    case regex(String)
    /// One of these texts.
    case choice([String])
    /// A grammar in llguidance's dialect of Lark.
    case lark(String)
}
