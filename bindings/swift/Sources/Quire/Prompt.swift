import CQuire

/// What an answer continues.
public struct Prompt: Sendable, Hashable {
    enum Content: Sendable, Hashable {
        case text(String)
        case tokens([TokenID])
    }

    let content: Content

    /// Text, as it is: nothing is put around it. Special tokens written out in it ("<|im_start|>") are recognised.
    public init(_ text: String) {
        content = .text(text)
    }

    /// Tokens, as they are.
    public init(tokens: [TokenID]) {
        content = .tokens(tokens)
    }
}

/// What can be a prompt: a string, or a ``Prompt``.
public protocol PromptRepresentable {
    var promptRepresentation: Prompt { get }
}

extension Prompt: PromptRepresentable {
    public var promptRepresentation: Prompt { self }
}

extension String: PromptRepresentable {
    public var promptRepresentation: Prompt { Prompt(self) }
}

extension PromptRepresentable where Self == Prompt {
    /// Tokens, as they are.
    public static func tokens(_ tokens: [TokenID]) -> Prompt { Prompt(tokens: tokens) }
}

extension Prompt {
    func fill(_ raw: inout quire_request_options, _ arena: inout Arena) throws {
        switch content {
        case .text(let text):
            (raw.prompt, raw.prompt_len) = arena.copy(text)
        case .tokens(let tokens):
            (raw.prompt_tokens, raw.prompt_token_count) = (arena.copy(tokens), tokens.count)
        }
    }
}
