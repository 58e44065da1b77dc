import SwiftUI
import UniformTypeIdentifiers

struct ChatView: View {
    let chat: Chat
    @State private var prompt = ""
    @State private var isChoosing = false

    var body: some View {
        VStack(spacing: 0) {
            messages
            Divider()
            Text(chat.status)
                .font(.caption)
                .foregroundStyle(.secondary)
                .frame(maxWidth: .infinity, alignment: .leading)
                .padding([.horizontal, .top], 12)
            input
        }
        .toolbar {
            Button("Model…") { isChoosing = true }
            Button("Reset") { chat.reset() }
                .disabled(!chat.isReady)
        }
        .fileImporter(isPresented: $isChoosing, allowedContentTypes: [.folder, .data]) { result in
            if case .success(let url) = result {
                Task { await chat.load(model: url.path) }
            }
        }
    }

    private var messages: some View {
        ScrollView {
            LazyVStack(alignment: .leading, spacing: 12) {
                ForEach(chat.messages) { message in
                    Text(message.text)
                        .textSelection(.enabled)
                        .padding(10)
                        .background(message.isFromUser ? Color.accentColor.opacity(0.2) : Color.secondary.opacity(0.1))
                        .clipShape(RoundedRectangle(cornerRadius: 10))
                        .frame(maxWidth: .infinity, alignment: message.isFromUser ? .trailing : .leading)
                }
            }
            .padding(12)
        }
        .defaultScrollAnchor(.bottom)
    }

    private var input: some View {
        HStack {
            TextField("Message", text: $prompt, axis: .vertical)
                .textFieldStyle(.roundedBorder)
                .lineLimit(1...6)
                .onSubmit(send)
            if chat.isResponding {
                Button("Stop", action: chat.stop)
            } else {
                Button("Send", action: send)
                    .disabled(!chat.isReady || prompt.isEmpty)
            }
        }
        .padding(12)
    }

    private func send() {
        guard !prompt.isEmpty else { return }
        chat.send(prompt)
        prompt = ""
    }
}
