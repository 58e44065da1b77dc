// swift-tools-version: 6.0
import PackageDescription

let package = Package(
    name: "hello",
    platforms: [.macOS(.v14)],
    dependencies: [
        .package(path: "/path/to/quire/bindings/swift"),
    ],
    targets: [
        .executableTarget(
            name: "hello",
            dependencies: [.product(name: "Quire", package: "swift")]
        ),
    ]
)
