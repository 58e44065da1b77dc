import Quire

let model = CommandLine.arguments.dropFirst().first ?? "model.gguf"
let engine = try await Engine(model: model)
for try await text in engine.stream("The capital of France is").text {
    print(text, terminator: "")
}
