# The doors of the project. Each works on a fresh Debian 12 machine with Rust and root.

CARGO ?= cargo

.PHONY: all build demo test peer check bench fmt fuzz packages tools clean

all: build

build:
	$(CARGO) build --release --package skep --package skep-whoami

## Bring up a host, deploy a service, show it working. KEEP=1 leaves it up.
demo: packages
	$(CARGO) build --release --package skep --package skep-whoami --package skep-testbed
	target/release/demo

## Everything, quick tests first; what CI runs.
test: packages tools
	$(CARGO) nextest run --workspace --exclude skep-testbed
	$(CARGO) test --quiet --workspace --doc
	$(CARGO) build --package skep --package skep-whoami
	$(CARGO) nextest run --package skep-testbed

## Beside and together with Docker's own daemon: minutes, and seldom broken.
peer: packages tools
	scripts/peer
	$(CARGO) build --package skep --package skep-whoami
	$(CARGO) nextest run --package skep-testbed --run-ignored only

## Read-only, the lock file included: format, lints, crate levels, licences, documentation.
check: tools
	$(CARGO) fmt --all --check
	$(CARGO) clippy --quiet --locked --workspace --all-targets -- --deny warnings
	$(CARGO) xtask levels
	scripts/deny
	RUSTDOCFLAGS="--deny warnings" $(CARGO) doc --quiet --locked --workspace --no-deps --document-private-items

## Speed and memory, beside a real Docker daemon.
bench: packages
	scripts/peer
	$(CARGO) build --release --package skep --package skep-whoami --package skep-testbed
	target/release/bench

## Every fuzz target for a minute; scripts/fuzz takes other times and one target.
fuzz:
	scripts/fuzz

## Rewrites files, unlike check.
fmt:
	$(CARGO) fmt --all

packages:
	scripts/packages

tools:
	scripts/tools

clean:
	$(CARGO) clean
