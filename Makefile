# The front door. Everything behind it is `cargo` and `cargo xtask` (see xtask/src/main.rs).

CARGO ?= cargo
XTASK = $(CARGO) run --quiet --locked --package xtask --

.DEFAULT_GOAL := help
.PHONY: help setup build bench demo test test-swift parity fuzz check header model clean distclean toolchain

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: setup ## build everything, fetch a small model, stream an answer
	@$(XTASK) demo

test: setup ## run all tests: Rust (on MLX and on the mock), C, C++, valgrind, Swift
	@$(XTASK) model
	@$(XTASK) text-data
	$(CARGO) test --locked --package xtask
	$(CARGO) test --locked
	$(CARGO) test --locked --no-default-features
	@$(XTASK) test-c
	@$(XTASK) test-swift

test-swift: setup ## the tests of the Swift package alone
	@$(XTASK) test-swift

fuzz: ## run each fuzz target for five minutes (needs cargo-fuzz and a nightly compiler)
	@for target in $$($(CARGO) +nightly fuzz list); do mkdir -p fuzz/corpus/$$target && \
		$(CARGO) +nightly fuzz run $$target fuzz/corpus/$$target fuzz/seeds/$$target -- \
			-max_total_time=$${SECONDS_EACH:-300} || exit 1; done

parity: setup ## compare small models of every architecture with a live mlx-lm (needs Python)
	@$(XTASK) parity

check: setup ## formatting, lints, documentation, drift of header and README
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --package xtask --all-targets -- -D warnings
	$(CARGO) clippy --locked --all-targets -- -D warnings
	$(CARGO) clippy --locked --no-default-features --all-targets -- -D warnings
	RUSTDOCFLAGS="-D warnings" $(CARGO) doc --locked --no-deps --package quire
	@$(XTASK) header --check
	@$(XTASK) readme --check

setup: toolchain ## check the tools and put MLX together (MLX=cuda: the CUDA build)
	@$(XTASK) setup

build: setup ## the release library into build/lib, its header into build/include
	@$(XTASK) build

bench: setup ## the C benchmark driver, at bindings/c/bench
	@$(XTASK) bench

header: toolchain ## write include/quire.h from src/ffi, and README's example from tests/c
	@$(XTASK) header
	@$(XTASK) readme

model: toolchain ## fetch the small model of demo and tests into .models
	@$(XTASK) model

clean: ## remove what was built
	rm -rf build bindings/c/bench bindings/swift/.build bindings/swift/.build-tsan
	$(CARGO) clean

distclean: clean ## remove also what set-up and model fetched
	rm -rf .mlx .cargo .models

toolchain:
	@CARGO="$(CARGO)" xtask/toolchain.sh
