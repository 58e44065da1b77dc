import SwiftUI

/// A chat with a model of the user's choice.
@main
struct QuireChatApp: App {
    @State private var chat = Chat()
    @Environment(\.scenePhase) private var scenePhase

    var body: some Scene {
        WindowGroup {
            ChatView(chat: chat)
                .frame(minWidth: 420, minHeight: 480)
        }
        .onChange(of: scenePhase) { _, phase in
            chat.setActive(phase != .background)
        }
    }
}
