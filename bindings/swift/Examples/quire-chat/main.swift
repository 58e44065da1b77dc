// A conversation in the terminal.
//
//     swift run quire-chat --model MODEL [--system TEXT] [--temperature T] [--max-tokens N] [--thinking on|off]
//
// Ctrl-C ends a reply; at the prompt it ends the program. /help lists what else there is.

import Foundation
import Quire

let terminal = Terminal()
let arguments: Arguments
do {
    arguments = try Arguments(CommandLine.arguments.dropFirst())
} catch {
    terminal.fail("\(error)\n\(Arguments.usage)")
    exit(2)
}

let conversation: Conversation
do {
    let engine = try await Engine(model: arguments.model) { progress in
        terminal.status("\(progress.stage) \(Int(progress.fraction * 100))%")
    }
    terminal.status("")
    conversation = Conversation(engine: engine, arguments: arguments, terminal: terminal)
} catch {
    terminal.fail("\(error)")
    exit(1)
}

let interrupts = Interrupts { conversation.interrupt() }
await conversation.run()
try await conversation.engine.shutdown()
withExtendedLifetime(interrupts) {}
