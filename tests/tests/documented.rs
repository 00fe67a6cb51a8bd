//! Every command in the pages is run as it stands by some test, or is among those that this says why not of.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use reference::commands::{Kind, blocks, pages};

/// The sections whose steps are run, by the tests of the migration and of `install.sh`.
const GUIDES: [(&str, &str); 4] = [
    ("docs/migration.md", "A machine with systemd, to Tweed"),
    ("docs/migration.md", "A machine with systemd, back"),
    ("docs/upgrade.md", "One node after the other"),
    ("docs/upgrade.md", "Going back"),
];

/// With what a command begins.
const PROGRAMS: &str = "\
    apt-get bridge capsh cargo cni-plugin conntrack ctr curl deploy/install.sh docker etcdctl \
    ethtool flannel-agent install.sh ip iptables iptables-save ipvsadm journalctl kind kubectl make \
    modprobe nft perf ping podman service-proxy ss strace sysctl systemctl tcpdump ulimit \
    TWEED_PROXY=PATH";

/// Commands in a sentence that are in no block, and what shows that they are right.
const ELSEWHERE: &[(&str, &str)] = &[
    // What is said of a program, without its arguments.
    ("cni-plugin install", "the same with a directory"),
    (
        "cni-plugin install DIR",
        "tests/tests/install_script, by install.sh",
    ),
    (
        "cni-plugin install /opt/cni/bin",
        "tests/tests/install_script, by install.sh",
    ),
    ("install.sh BINARIES", "tests/tests/install_script"),
    (
        "service-proxy --config",
        "service-proxy/tests/kube/configuration.rs",
    ),
    ("service-proxy --help", "tests/tests/reference.rs"),
    (
        "service-proxy --init-only",
        "tests/tests/manifests/kubelet.rs",
    ),
    (
        "service-proxy --cleanup",
        "tests/tests/manifests/cluster.rs",
    ),
    (
        "flannel-agent --cleanup",
        "tests/tests/manifests/cluster.rs",
    ),
    (
        "service-proxy list [--json]",
        "docs/troubleshooting.md has both",
    ),
    (
        "service-proxy explain SRC DST:PORT[/PROTO] [--json]",
        "docs/troubleshooting.md",
    ),
    // Run by hand, or by those who make releases.
    ("make clean-lab", "by hand"),
    (
        "make debian-kernel",
        "tests/debian-kernel/run.sh, a part of it in make test",
    ),
    ("make demo KEEP=1", "by hand"),
    ("make help", "by hand"),
    ("make image-check", "by hand, as root with containerd"),
    (
        "deploy/install.sh target/x86_64-unknown-linux-gnu/dist",
        "tests/tests/install_script, with another directory",
    ),
    ("ctr image import", "deploy/image/check.sh"),
    (
        "docker load",
        "not run: there is no Docker where this was written",
    ),
    (
        "podman load",
        "not run: podman does not start where this was written",
    ),
    (
        "cargo deny check",
        "by hand; offline: tests/tests/dependencies.rs",
    ),
    ("cargo deny check advisories", "by hand"),
    (
        "TWEED_PROXY=PATH cargo test -p service-proxy --test packets -- another_proxy --nocapture",
        "by hand",
    ),
    // What a lab has done in another way, or does not have.
    ("etcdctl put", "tests/src/cluster.rs"),
    (
        "etcdctl put /coreos.com/network/config \"$(cat net-conf.json)\"",
        "tests/src/cluster.rs",
    ),
    (
        "etcdctl del /coreos.com/network/subnets/10.5.34.0-24",
        "flannel-agent/tests: leases are deleted",
    ),
    (
        "iptables -t nat -nvL FLANNEL-POSTRTG",
        "tests/tests/migration has those rules",
    ),
    (
        "ipvsadm -Ln",
        "service-proxy/tests/ipvs.rs, under Debian's kernel",
    ),
    (
        "journalctl -u flannel-agent",
        "by hand: a lab has no journal",
    ),
    (
        "journalctl -u flannel-agent -u service-proxy",
        "by hand: a lab has no journal",
    ),
    ("modprobe br_netfilter", "the lab's kernel has no modules"),
    (
        "kubectl -n kube-flannel exec POD -- flannel-agent status",
        "pods of a cluster: deploy/kind/run.sh",
    ),
    (
        "kubectl describe pod",
        "pods of a cluster: deploy/kind/run.sh",
    ),
    ("kubectl logs", "pods of a cluster: deploy/kind/run.sh"),
    (
        "kubectl rollout restart",
        "tests/kubernetes/trouble.sh, deploy/kind/end-to-end.sh",
    ),
    // How something was found out.
    ("cargo tree", "docs/decisions.md"),
    ("ethtool -L", "docs/decisions.md"),
    ("ip netns exec", "docs/decisions.md"),
    (
        "ip route replace 10.5.34.0/24 via 10.5.34.0 dev if7 onlink proto 84: Network is down (ENETDOWN)",
        "a message",
    ),
    ("ip -batch", "docs/benchmarks.md"),
    ("nft -f", "docs/service-proxy.md: what nft does"),
    ("nft list ruleset", "docs/service-proxy.md: what nft does"),
    ("perf record", "docs/benchmarks.md"),
    ("perf record -e cpu-clock", "docs/benchmarks.md"),
    ("perf record -a -g", "docs/benchmarks.md"),
    ("strace --seccomp-bpf -T", "docs/benchmarks.md"),
    (
        "strace -f --seccomp-bpf -r -e trace=sendmsg,recvfrom,exit_group",
        "docs/benchmarks.md",
    ),
    ("strace -r", "docs/benchmarks.md"),
    (
        "ulimit -n 20000; TWEED_LOAD_OPEN=1000 TWEED_LOAD_RATE=1000 cargo test -p service-proxy --test packets -- restart:: --nocapture --test-threads 1",
        "docs/service-proxy.md: a long run",
    ),
    (
        "ulimit -n 20000; TWEED_SWITCH_ROUNDS=8 TWEED_LOAD_OPEN=200 TWEED_LOAD_RATE=500 cargo test -p service-proxy --test packets -- --nocapture --test-threads 1 switch::",
        "docs/service-proxy.md: a long run",
    ),
];

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// A command with its words a space apart, however it was wrapped.
fn joined(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// What stands as code in the sentences of a page, but for single words.
fn in_sentences(text: &str) -> BTreeSet<String> {
    let mut fenced = false;
    let mut sentences = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            sentences.push_str(line);
            sentences.push('\n');
        }
    }
    let paragraphs = sentences.split("\n\n").flat_map(|it| it.split("\n|"));
    let code = paragraphs.flat_map(reference::code).map(|it| joined(&it));
    code.filter(|it| it.contains(' ')).collect()
}

#[test]
fn every_block_says_who_runs_it() {
    let blocks = blocks();
    let unmarked: Vec<_> = blocks
        .iter()
        .filter(|it| it.kind().is_none())
        .map(|it| format!("{}:{}: {:?}", it.page, it.line, it.info))
        .collect();
    assert!(unmarked.is_empty(), "{unmarked:#?}");
    let unknown: Vec<_> = blocks
        .iter()
        .filter(|it| it.kind() == Some(Kind::Step))
        .filter(|it| !GUIDES.contains(&(it.page.as_str(), it.heading.as_str())))
        .map(|it| format!("{}:{}: no test follows {:?}", it.page, it.line, it.heading))
        .collect();
    assert!(unknown.is_empty(), "{unknown:#?}");
    let of_node = |it: &&_| matches!(reference::commands::Block::kind(it), Some(Kind::Node));
    assert!(blocks.iter().filter(of_node).count() > 10);
}

#[test]
fn commands_in_sentences_are_in_blocks_too() {
    let run: Vec<_> = blocks()
        .iter()
        .filter(|it| it.kind() != Some(Kind::Text))
        .map(|it| joined(&it.text))
        .collect();
    let mut lost = Vec::new();
    let mut excused = BTreeSet::new();
    for (page, text) in pages() {
        for command in in_sentences(&text) {
            let program = command.split(' ').next().unwrap();
            if !PROGRAMS.split(' ').any(|it| it == program)
                || run.iter().any(|it| it.contains(&command))
            {
                continue;
            }
            if ELSEWHERE.iter().any(|(known, _)| *known == command) {
                excused.insert(command);
            } else {
                lost.push(format!("{page}: {command}"));
            }
        }
    }
    assert!(lost.is_empty(), "{lost:#?}");
    let needless = ELSEWHERE.iter().filter(|it| !excused.contains(it.0));
    let needless: Vec<_> = needless.collect();
    assert!(needless.is_empty(), "{needless:?}");
}

/// Those that take minutes are not run, but what they name is there.
#[test]
fn builds_name_what_there_is() {
    let makefile = fs::read_to_string(workspace().join("Makefile")).unwrap();
    let mut named = 0;
    for block in blocks().iter().filter(|it| it.kind() == Some(Kind::Build)) {
        let words: Vec<_> = block.text.split_whitespace().collect();
        for pair in words.windows(2) {
            let (option, name) = (pair[0], pair[1]);
            let is_there = match option {
                "make" => makefile.lines().any(|it| target_is(it, name)),
                "-p" => workspace().join(name).is_dir() || name == "lab",
                "--bin" => [
                    format!("tests/src/bin/{name}.rs"),
                    format!("tests/src/bin/{name}"),
                ]
                .iter()
                .any(|it| workspace().join(it).exists()),
                _ => continue,
            };
            assert!(is_there, "{}:{}: {option} {name}", block.page, block.line);
            named += 1;
        }
    }
    assert!(named > 5, "{named}");
}

fn target_is(line: &str, name: &str) -> bool {
    let targets = line.split_once(':').map_or("", |(targets, _)| targets);
    !line.starts_with(['.', '\t']) && targets.split(' ').any(|it| it == name)
}

#[test]
fn commands_are_found_in_sentences() {
    let text =
        "Take `nft list\n  tables`, or `x`:\n\n```sh\nignored `a b`\n```\n| `c d` | `e`\n|`f g`|\n";
    let found: Vec<_> = in_sentences(text).into_iter().collect();
    assert_eq!(found, ["c d", "f g", "nft list tables"]);
}
