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
    ],
    targets: [
        library,
        .target(name: "Quire", dependencies: ["CQuire"]),
        .testTarget(name: "QuireTests", dependencies: ["Quire", "CQuire"]),
    ],
    swiftLanguageModes: [.v6]
)
