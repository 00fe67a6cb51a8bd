#!/usr/bin/env bash
# Builds the container image of the three programs into target/image/tweed.tar, an OCI archive. Needs the Rust
# toolchain, apt-get and dpkg-deb, no container engine. A second build of the same commit gives the same bytes,
# wherever it runs, as long as Debian's packages stay the same (their versions are in the image's SBOM).
set -euo pipefail
cd "$(dirname "$0")/../.."

host=$(rustc -vV | sed -n 's/^host: //p')
revision=$(git rev-parse HEAD)
[ -z "$(git status --porcelain)" ] || revision+=-dirty
created=$(git log -1 --format=%ct)
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
reference=${IMAGE:-tweed.local/tweed:$version}
out=target/image

# iptables of both kinds, and the libraries that it is linked with.
packages=(iptables netbase libc6 libgcc-s1 libip4tc2 libip6tc2 libmnl0 libnetfilter-conntrack3 libnfnetlink0
    libnftnl11 libxtables12)

# Nothing of this machine's paths goes into the programs.
export RUSTFLAGS="-C target-feature=+crt-static --remap-path-prefix=$PWD=tweed \
--remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}=cargo"
TWEED_REVISION=$(git describe --always --dirty --exclude '*' --abbrev=12)
export TWEED_REVISION

echo "==> Building the programs of $revision"
cargo build --locked --profile dist --target "$host" -p cni-plugin -p flannel-agent -p service-proxy
mkdir -p "$out/packages"
echo "==> Fetching ${#packages[@]} Debian packages"
rm -f "$out"/packages/*.deb
# As root, apt-get would have the sandbox user write here.
(cd "$out/packages" && apt-get download -q -o APT::Sandbox::User=root "${packages[@]}")
echo "==> Writing the image"
RUSTFLAGS='' cargo run --quiet --locked -p image -- --binaries "target/$host/dist" --packages "$out/packages" \
    --revision "$revision" --created "$created" --reference "$reference" --output "$out/tweed.tar"
sha256sum "$out/tweed.tar"
