//! `cargo xtask ...`: what it takes to build, test and ship Quire, besides cargo itself.
//!
//! The Makefile is the front door; each of its targets is one or two of these commands.

use std::process::ExitCode;

mod header;
mod mlx;
mod pip;
mod runtime;
mod setup;
mod sh;
mod tools;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup      check the tools, and on Linux put MLX together under .mlx/
             MLX=cuda      use the CUDA build of MLX at run time
             BLAS=reference  keep the BLAS that MLX's wheel carries
  header     write include/quire.h from src/ffi; with --check only compare
";

/// Every command ends in this: nothing, or a message for a person.
type Result<T = ()> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["setup"] => setup::run(),
        ["header"] => header::run(false),
        ["header", "--check"] => header::run(true),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [] => Err(USAGE.to_owned()),
        [unknown, ..] => Err(format!("unknown command or arguments: {unknown}\n\n{USAGE}")),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
