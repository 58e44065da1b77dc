import CQuire

/// What an answer continues.
public struct Prompt: Sendable, Hashable {
    enum Content: Sendable, Hashable {
        case text(String)
        case tokens([TokenID])
        case chat(Chat)
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

    /// A conversation, put into text by the model's chat template. The model may call the `tools` (see
    /// ``Tool/definition``), and thinks before it answers where its template has that switch.
    public init(_ transcript: Transcript, tools: [ToolDefinition] = [], thinking: ThinkingMode = .automatic) {
        let tools = tools.isEmpty ? nil : JSON.array(tools.map(\.json))
        content = .chat(Chat(messages: transcript.json, tools: tools, thinking: thinking))
    }
}

/// Whether a model is to think before it answers.
public enum ThinkingMode: Sendable, Hashable {
    /// As its chat template has it by itself.
    case automatic
    case on
    case off
}

/// A conversation as the library takes it.
struct Chat: Sendable, Hashable {
    /// JSON arrays; nil for no tools.
    let messages: String
    let tools: String?
    let thinking: ThinkingMode

    /// `thinking` counts where the conversation itself says nothing of it.
    func raw(_ arena: Arena, thinking otherwise: ThinkingMode = .automatic) -> quire_chat {
        var raw = quire_chat()
        raw.struct_size = MemoryLayout<quire_chat>.stride
        (raw.messages, raw.messages_len) = arena.copy(messages)
        if let tools {
            (raw.tools, raw.tools_len) = arena.copy(tools)
        }
        raw.thinking =
            switch thinking == .automatic ? otherwise : thinking {
            case .automatic: QUIRE_THINKING_DEFAULT
            case .on: QUIRE_THINKING_ON
            case .off: QUIRE_THINKING_OFF
            }
        return raw
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
    func fill(_ raw: inout quire_request_options, _ arena: Arena, thinking: ThinkingMode) {
        switch content {
        case .text(let text):
            (raw.prompt, raw.prompt_len) = arena.copy(text)
        case .tokens(let tokens):
            (raw.prompt_tokens, raw.prompt_token_count) = (arena.copy(tokens), tokens.count)
        case .chat(let chat):
            raw.chat = arena.copy([chat.raw(arena, thinking: thinking)])
        }
    }
}
