# Everything a developer or CI runs. Needs the Rust toolchain and, for what is missing, apt-get and root.

.PHONY: help test demo lint build dist-cni packages clean-lab

help:
	@echo "make test         formatting, lints, all tests (as root: they make network namespaces)"
	@echo "make demo         three nodes, six pods, a Service: shows that it works, then takes it down"
	@echo "make demo KEEP=1  the same, but leaves it up"
	@echo "make dist-cni     the CNI plugin as it is installed on nodes: optimized, static"
	@echo "make clean-lab    takes down a demo that was left up"

test: packages lint
	cargo build --workspace --quiet
	tests/leaves-nothing.sh cargo test --workspace --quiet

demo: packages
	cargo build --workspace
	@target/debug/lab demo $(if $(KEEP),--keep)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings

build:
	cargo build --workspace

dist-cni:
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile dist -p cni-plugin \
		--target $$(rustc -vV | sed -n 's/^host: //p')

packages:
	@tests/install-packages.sh

clean-lab: build
	target/debug/lab down
