//! The rules of the house that a compiler does not keep: planning is pure, the CNI plugin has no runtime.

#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

/// What a `plan` module must not name, with the reason.
const FORBIDDEN_IN_PLAN: &[(&str, &str)] = &[
    ("std::fs", "files"),
    ("std::io", "input and output"),
    ("std::env", "the environment"),
    ("std::process", "processes"),
    ("std::thread", "threads"),
    ("SystemTime", "the clock: time is an argument"),
    ("Instant", "the clock: time is an argument"),
    ("TcpStream", "sockets"),
    ("TcpListener", "sockets"),
    ("UdpSocket", "sockets"),
    ("tokio", "a runtime"),
    ("async ", "async"),
    (".await", "async"),
    ("Handle", "a kernel socket"),
    ("kernel::netlink", "a kernel socket"),
    ("kernel::netns", "namespaces"),
    ("sysctl::", "kernel settings"),
    ("rand", "chance"),
    ("HashMap", "an order that changes from run to run"),
    ("HashSet", "an order that changes from run to run"),
    ("tracing", "logging"),
];

#[test]
fn planning_is_pure() {
    let files: Vec<_> = ["cni-plugin", "flannel-agent", "service-proxy"]
        .iter()
        .flat_map(|program| rust_files(&workspace().join(program).join("src")))
        .filter(|path| is_plan(path))
        .collect();
    assert!(files.len() >= 2, "found only {files:?}");
    let offences: Vec<_> = files.iter().flat_map(|path| offences(path)).collect();
    assert!(
        offences.is_empty(),
        "plan modules reach outside:\n{}",
        offences.join("\n")
    );
}

#[test]
fn impurity_would_be_noticed() {
    assert_eq!(
        forbidden_in("let now = std::time::Instant::now();"),
        ["the clock: time is an argument"]
    );
    assert_eq!(
        forbidden_in("use kernel::route::Handle;"),
        ["a kernel socket"]
    );
    assert_eq!(forbidden_in("// tokio::spawn is not for here"), [""; 0]);
    assert_eq!(forbidden_in("let operand = 1;"), [""; 0]);
}

#[test]
fn cni_plugin_links_no_async_runtime() {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--package",
            "cni-plugin",
            "--edges",
            "normal",
            "--prefix",
            "none",
            "--offline",
        ])
        .current_dir(workspace())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let tree = String::from_utf8(output.stdout).unwrap();
    assert!(tree.contains("kernel v"), "unexpected: {tree}");
    for runtime in ["tokio", "futures", "async-std", "smol"] {
        assert!(
            !tree.lines().any(|line| line.starts_with(runtime)),
            "links {runtime}:\n{tree}"
        );
    }
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn is_plan(path: &Path) -> bool {
    path.ends_with("plan.rs") || path.components().any(|part| part.as_os_str() == "plan")
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            if path.is_dir() {
                rust_files(&path)
            } else {
                vec![path]
            }
        })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .collect()
}

fn offences(path: &Path) -> Vec<String> {
    let text = fs::read_to_string(path).unwrap();
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    code.lines()
        .zip(1..)
        .flat_map(|(line, number)| {
            forbidden_in(line).into_iter().map(move |reason| {
                format!("{}:{number}: {reason}: {}", path.display(), line.trim())
            })
        })
        .collect()
}

/// Why a line of code must not stand in a `plan` module.
fn forbidden_in(line: &str) -> Vec<&'static str> {
    let code = line.split("//").next().unwrap_or_default();
    FORBIDDEN_IN_PLAN
        .iter()
        .filter(|(word, _)| names(code, word))
        .map(|(_, reason)| *reason)
        .collect()
}

/// Whether `code` contains `word` other than as a part of a longer identifier.
fn names(code: &str, word: &str) -> bool {
    let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
    code.match_indices(word).any(|(at, _)| {
        let (before, after) = (&code[..at], &code[at + word.len()..]);
        let open_end = word.ends_with(|c: char| c.is_alphanumeric());
        let part_of_more =
            is_part(before.chars().next_back()) || (open_end && is_part(after.chars().next()));
        !part_of_more
    })
}
