//! `cargo xtask ...`: what it takes to build, test and ship Quire, besides cargo itself.
//!
//! The Makefile is the front door; each of its targets is one or two of these commands.

use std::process::ExitCode;

mod bench;
mod cc;
mod ctests;
mod exports;
mod header;
mod library;
mod model;
mod parity;
mod readme;
mod setup;
mod sh;
mod swift;
mod text_data;

const USAGE: &str = "\
usage: cargo xtask <command>

  setup            check the tools, and on Linux put MLX together under .mlx/
                     MLX=cuda        run on the CUDA build of MLX
                     BLAS=reference  keep the slow BLAS that MLX's wheel carries
  build            the release library into build/lib, its header into build/include
  bench            that, and the C benchmark driver at bindings/c/bench
  model            fetch the small real model of demo and tests; prints its path
  text-data        fetch chat templates and tokenizers of published models, for the tests
  demo             all of the above, then stream an answer
  parity           compare the small models of tests/parity with a live mlx-lm (needs Python)
                     PYTHON=...    a Python that has mlx-lm 0.32.0, rather than one of our own
  test-c           the tests in C and C++, and those of the library as a file
  test-swift       the tests of the Swift package
  swift-cost       what the Swift package adds to an event
  header [--check] write include/quire.h, or compare it with what src/ffi says
  readme [--check] put tests/c/readme_example.c into README.md, or compare them
";

/// Every command ends in this: nothing, or a message for a person.
type Result<T = ()> = std::result::Result<T, String>;

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let args: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match args.as_slice() {
        ["setup"] => setup::run(),
        ["build"] => bench::build_library().map(drop),
        ["bench"] => bench::build(),
        ["model"] => model::fetch().map(|path| println!("{}", path.display())),
        ["text-data"] => text_data::fetch(),
        ["parity"] => parity::run(),
        ["demo"] => bench::demo(),
        ["test-c"] => ctests::run(),
        ["test-swift"] => swift::test(),
        ["swift-cost"] => swift::cost(),
        ["header"] => header::run(false),
        ["header", "--check"] => header::run(true),
        ["readme"] => readme::run(false),
        ["readme", "--check"] => readme::run(true),
        ["help" | "--help" | "-h"] => {
            print!("{USAGE}");
            Ok(())
        }
        [] => Err(USAGE.to_owned()),
        unknown => Err(format!("unknown command: {}\n\n{USAGE}", unknown.join(" "))),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}
