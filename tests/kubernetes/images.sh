#!/usr/bin/env bash
# Writes what a kubelet without a registry needs, made of this machine's busybox: the image that holds a pod's namespaces,
# and the one of the checks' pods, as an archive that `ctr image import` takes.
#
#   images.sh FILE
set -euo pipefail
file=$(realpath "$1")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

mkdir -p "$work/root/bin" "$work/root/tmp" "$work/root/etc"
cp "$(command -v busybox)" "$work/root/bin/"
for applet in $(busybox --list); do
    [ "$applet" = busybox ] || ln -s busybox "$work/root/bin/$applet"
done
cd "$work"
tar -C root --owner=0 --group=0 -cf layer.tar .
jq -n --arg layer "sha256:$(sha256sum layer.tar | cut -d ' ' -f 1)" --arg machine "$(dpkg --print-architecture)" \
    '{architecture: $machine, os: "linux", config: {Cmd: ["sleep", "infinity"], Env: ["PATH=/bin"]},
      rootfs: {type: "layers", diff_ids: [$layer]}}' >config.json
# As `docker save` writes them.
jq -n '[{Config: "config.json", Layers: ["layer.tar"],
    RepoTags: ["tweed.local/pause:1", "docker.io/library/busybox:1.37"]}]' >manifest.json
tar -cf "$file" manifest.json config.json layer.tar
