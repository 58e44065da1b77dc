import Quire

let model = CommandLine.arguments.dropFirst().first ?? "model.gguf"
