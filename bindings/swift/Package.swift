// swift-tools-version: 6.0
import Foundation
import PackageDescription

// libquire itself: on Apple systems the xcframework that scripts/build-xcframework.sh makes, once it has been made;
// else, and on Linux, a library built beside this package, which pkg-config finds (see the README).
let framework = "Frameworks/CQuire.xcframework"
let hasFramework = FileManager.default.fileExists(atPath: Context.packageDirectory + "/" + framework)

let library: Target =
    hasFramework
    ? .binaryTarget(name: "CQuire", path: framework)
    : .systemLibrary(name: "CQuire", pkgConfig: "quire")

let package = Package(
    name: "quire",
    platforms: [.macOS(.v14), .iOS(.v17)],
    products: [
        .library(name: "Quire", targets: ["Quire"]),
        .executable(name: "quire-chat", targets: ["quire-chat"]),
    ],
    targets: [
        library,
        .target(name: "Quire", dependencies: ["CQuire"]),
        .testTarget(name: "QuireTests", dependencies: ["Quire", "CQuire"]),
        .executableTarget(name: "quire-chat", dependencies: ["Quire"], path: "Examples/quire-chat"),
        .executableTarget(name: "readme-example", dependencies: ["Quire"], path: "Examples/readme-example"),
        .executableTarget(name: "event-cost", dependencies: ["Quire", "CQuire"], path: "Benchmarks/event-cost"),
    ],
    swiftLanguageModes: [.v6]
)

#if os(macOS)
// For systems whose SDK has Apple's framework; elsewhere there is nothing it could be made of.
package.products.append(.library(name: "QuireFoundationModels", targets: ["QuireFoundationModels"]))
package.targets.append(.target(name: "QuireFoundationModels", dependencies: ["Quire"]))
#endif
