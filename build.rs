//! Linker arguments: how the library is named, and where it and our tests find MLX.

use std::env;
use std::path::Path;
use std::process::exit;

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    println!("cargo:rustc-check-cfg=cfg(quire_host_op)");
    println!("cargo:rerun-if-env-changed=DEP_MLX_RUNTIME");
    println!("cargo:rerun-if-env-changed=DEP_MLX_NATIVE");
    match env::var("CARGO_CFG_TARGET_OS").as_deref() {
        Ok("linux") => linux(),
        Ok("macos") => println!("cargo:rustc-link-arg-cdylib=-Wl,-install_name,@rpath/libquire.dylib"),
        _ => {}
    }
}

fn linux() {
    println!("cargo:rustc-link-arg-cdylib=-Wl,-soname,libquire.so");
    if env::var_os("CARGO_FEATURE_MLX").is_none() {
        return;
    }
    // Set by the build-script override of mlx-sys that `make setup` writes.
    let Ok(runtime) = env::var("DEP_MLX_RUNTIME") else {
        println!(
            "cargo:error=MLX is not set up on this machine: run `make setup` first (or build with --no-default-features)"
        );
        exit(1);
    };
    // Beside the library first, as it is shipped; then where set-up put MLX, so that `cargo test`
    // just works. RUNPATH, not RPATH: LD_LIBRARY_PATH may put the CUDA build of MLX in its place.
    println!("cargo:rustc-link-arg=-Wl,--enable-new-dtags");
    println!("cargo:rustc-link-arg=-Wl,-rpath,$ORIGIN");
    println!("cargo:rustc-link-arg=-Wl,-rpath,{runtime}");
    if let Ok(archives) = env::var("DEP_MLX_NATIVE") {
        native(&archives);
    }
}

/// Links the kernels under native/cpu, where set-up has compiled any.
fn native(archives: &str) {
    println!("cargo:rerun-if-changed={archives}");
    if Path::new(archives).join("libquire_native.a").is_file() {
        println!("cargo:rustc-link-search=native={archives}");
        println!("cargo:rustc-link-lib=static=quire_native");
        // Our kernels can join MLX's graph.
        println!("cargo:rustc-cfg=quire_host_op");
    }
}
