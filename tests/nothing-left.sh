#!/bin/sh
# Fails if a test left a network namespace, a process or a file behind. Names of everything that tests make
# begin with `tweed-`.
set -eu

left=$(
    ls /run/netns 2>/dev/null | grep '^tweed-' || true
    ls -d /run/tweed-lab/* 2>/dev/null || true
    pgrep -a -x 'flannel-agent|service-proxy|cni-plugin|lab' || true
)
if [ -n "$left" ]; then
    printf 'The tests left behind:\n%s\n' "$left" >&2
    exit 1
fi
