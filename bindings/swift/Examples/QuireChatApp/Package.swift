// swift-tools-version: 6.0
import PackageDescription

// A package of its own, for SwiftUI is there on Apple systems only. In Xcode: open this folder and run.
let package = Package(
    name: "QuireChatApp",
    platforms: [.macOS(.v14)],
    dependencies: [.package(path: "../..")],
    targets: [
        .executableTarget(name: "QuireChatApp", dependencies: [.product(name: "Quire", package: "swift")])
    ],
    swiftLanguageModes: [.v6]
)
