#!/usr/bin/env bash
# Makes Frameworks/CQuire.xcframework: libquire as frameworks, which Package.swift links from then on.
#
#     build-xcframework.sh [--static] [PLATFORM...]     PLATFORM: macos (default), ios, ios-simulator
#
# Dynamic frameworks carry MLX's Metal kernels (mlx.metallib) where MLX looks for them, and come with dSYMs. With
# --static the frameworks are archives: then lay mlx.metallib, which is put beside the xcframework, beside the
# executable, for MLX looks there. Needs a Mac with Xcode, and rustup targets for what is not this Mac.
#
# mlx-sys 0.7.0 builds MLX with Metal for macOS only; ios and ios-simulator are here for the version that builds it for
# them, and fail with its error until then.
set -euo pipefail

package=$(cd "$(dirname "$0")/.." && pwd)
root=$(cd "$package/../.." && pwd)
name=CQuire
version=$(sed -n 's/^version = "\(.*\)"/\1/p' "$root/Cargo.toml" | head -n 1)
output=$package/Frameworks
work=$root/build/xcframework

fail() {
    echo "build-xcframework.sh: $1" >&2
    exit 1
}

[ "$(uname -s)" = Darwin ] || fail "xcframeworks are made on a Mac"
command -v xcodebuild >/dev/null || fail "Xcode is missing"

kind=dynamic
platforms=()
for argument in "$@"; do
    case $argument in
        --static) kind=static ;;
        macos | ios | ios-simulator) platforms+=("$argument") ;;
        *) fail "unknown: $argument" ;;
    esac
done
[ ${#platforms[@]} -gt 0 ] || platforms=(macos)

# What each platform is to cargo and to Xcode. The minimum versions are those of Package.swift.
describe() {
    case $1 in
        macos) target=aarch64-apple-darwin minimum=14.0 variable=MACOSX_DEPLOYMENT_TARGET supported=MacOSX ;;
        ios) target=aarch64-apple-ios minimum=17.0 variable=IPHONEOS_DEPLOYMENT_TARGET supported=iPhoneOS ;;
        ios-simulator)
            target=aarch64-apple-ios-sim minimum=17.0 variable=IPHONEOS_DEPLOYMENT_TARGET supported=iPhoneSimulator ;;
    esac
}

# Builds the library for a platform: $binary, and its kernels: $metallib.
build_library() {
    local crate_type=cdylib file=libquire.dylib
    [ $kind = dynamic ] || { crate_type=staticlib file=libquire.a; }
    metallib=$work/metal/$1/mlx.metallib
    mkdir -p "$(dirname "$metallib")"
    rustup target add "$target" >/dev/null 2>&1 || true
    (
        cd "$root"
        # Lines are all that a dSYM needs to tell where a crash was.
        env "$variable=$minimum" MLX_RS_METAL_PATH="$(dirname "$metallib")" \
            CARGO_PROFILE_RELEASE_DEBUG=line-tables-only CARGO_PROFILE_RELEASE_STRIP=none \
            cargo rustc --locked --release --lib --crate-type $crate_type --target "$target" \
            --target-dir "$work/target"
    )
    binary=$work/target/$target/release/$file
    [ -f "$binary" ] || fail "cargo made no $binary"
    [ -f "$metallib" ] || fail "the build of MLX made no $metallib"
}

write_info() {
    cat >"$1" <<PLIST
<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
    <key>CFBundleDevelopmentRegion</key><string>en</string>
    <key>CFBundleExecutable</key><string>$name</string>
    <key>CFBundleIdentifier</key><string>io.github.quire-engine.$name</string>
    <key>CFBundleInfoDictionaryVersion</key><string>6.0</string>
    <key>CFBundleName</key><string>$name</string>
    <key>CFBundlePackageType</key><string>FMWK</string>
    <key>CFBundleShortVersionString</key><string>$version</string>
    <key>CFBundleSupportedPlatforms</key><array><string>$supported</string></array>
    <key>CFBundleVersion</key><string>$version</string>
    <key>$2</key><string>$minimum</string>
</dict>
</plist>
PLIST
}

# Lays a framework out as its platform wants it: $framework. Its binary and kernels lie where MLX, which starts from
# the binary's own folder, finds them: in Resources on macOS, beside the binary elsewhere.
make_framework() {
    framework=$work/$kind/$1/$name.framework
    rm -rf "$framework"
    local contents=$framework resources=$framework identity=@rpath/$name.framework/$name
    if [ "$1" = macos ]; then
        contents=$framework/Versions/A
        resources=$contents/Resources
        identity=@rpath/$name.framework/Versions/A/$name
    fi
    mkdir -p "$contents/Headers" "$contents/Modules" "$resources"
    cp "$binary" "$contents/$name"
    cp "$root/include/quire.h" "$contents/Headers/quire.h"
    printf 'framework module %s [system] {\n  header "quire.h"\n  export *\n}\n' $name >"$contents/Modules/module.modulemap"
    if [ "$1" = macos ]; then
        write_info "$resources/Info.plist" LSMinimumSystemVersion
        ln -s A "$framework/Versions/Current"
        local part
        for part in $name Headers Modules Resources; do
            ln -s "Versions/Current/$part" "$framework/$part"
        done
    else
        write_info "$contents/Info.plist" MinimumOSVersion
    fi
    [ $kind = dynamic ] || return 0

    cp "$metallib" "$resources/mlx.metallib"
    install_name_tool -id "$identity" "$contents/$name"
    symbols=$work/$kind/$1/$name.framework.dSYM
    rm -rf "$symbols"
    dsymutil "$contents/$name" -o "$symbols"
    strip -x "$contents/$name"
    # Changed after it was linked, so signed anew; whoever embeds it signs it as their own.
    codesign --force --sign - "$framework"
    local minos
    minos=$(vtool -show-build "$contents/$name" | awk '$1 == "minos" { print $2; exit }')
    [ "$minos" = "$minimum" ] || fail "$contents/$name was built for $minos, not $minimum"
}

arguments=()
for platform in "${platforms[@]}"; do
    describe "$platform"
    build_library "$platform"
    make_framework "$platform"
    arguments+=(-framework "$framework")
    [ $kind = static ] || arguments+=(-debug-symbols "$symbols")
done

mkdir -p "$output"
rm -rf "$output/$name.xcframework" "$output/mlx.metallib"
xcodebuild -create-xcframework "${arguments[@]}" -output "$output/$name.xcframework"
[ $kind = dynamic ] || cp "$metallib" "$output/mlx.metallib"
echo "made $output/$name.xcframework ($kind: ${platforms[*]})"
