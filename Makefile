# Everything a developer or CI runs. Needs the Rust toolchain and, for what is missing, apt-get and root.

.PHONY: help test demo lint build dist dist-cni image image-check debian-kernel packages clean-lab

help:
	@echo "make test         formatting, lints, all tests (as root: they make network namespaces)"
	@echo "make demo         three nodes, six pods, a Service: shows that it works, then takes it down"
	@echo "make demo KEEP=1  the same, but leaves it up"
	@echo "make dist         the programs as they are installed on nodes: optimized, static"
	@echo "make dist-cni     the CNI plugin alone"
	@echo "make image        the container image, an OCI archive; make image-check runs the programs from it"
	@echo "make debian-kernel  what needs IPVS, dummy, ipip, WireGuard or VLANs, and all of the packet suite, under"
	@echo "                  Debian's kernel in qemu and in user mode (make test runs a part of it)"
	@echo "make clean-lab    takes down a demo that was left up"

test: packages lint
	cargo build --workspace --quiet
	tests/leaves-nothing.sh cargo test --workspace --quiet
	tests/debian-kernel/run.sh short

demo: packages
	cargo build --workspace
	@target/debug/lab demo $(if $(KEEP),--keep)

lint:
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --quiet -- -D warnings
	shellcheck $$(git ls-files '*.sh') tests/machine/systemctl

build:
	cargo build --workspace

dist: programs = cni-plugin flannel-agent service-proxy
dist-cni: programs = cni-plugin
dist dist-cni:
	TWEED_REVISION=$$(git describe --always --dirty --exclude '*' --abbrev=12) \
	RUSTFLAGS='-C target-feature=+crt-static' cargo build --profile dist $(addprefix -p ,$(programs)) \
		--target $$(rustc -vV | sed -n 's/^host: //p')

image:
	deploy/image/build.sh

image-check:
	deploy/image/check.sh

debian-kernel: packages
	tests/debian-kernel/run.sh

packages:
	@tests/install-packages.sh

clean-lab: build
	target/debug/lab down
