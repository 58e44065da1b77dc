import Quire

let model = CommandLine.arguments.dropFirst().first ?? "model.gguf"
let engine = try await Engine(model: model)
