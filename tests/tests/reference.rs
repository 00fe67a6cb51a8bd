//! `docs/configuration.md` names every flag and environment variable that the programs take, and none besides. What it
//! says of configuration keys is held against their parsers by tests beside those.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use lab::Programs;

/// Variables that libraries read: logging, readiness, and the way to the API server.
const OF_LIBRARIES: [&str; 4] = [
    "KUBERNETES_SERVICE_HOST",
    "KUBERNETES_SERVICE_PORT",
    "NOTIFY_SOCKET",
    "RUST_LOG",
];

/// The long flags that a program tells in its help, one a line.
fn told(program: PathBuf) -> BTreeSet<String> {
    let output = Command::new(program).arg("--help").output().unwrap();
    let help = String::from_utf8(output.stdout).unwrap();
    let flag = |line: &str| {
        let line = line.trim_start();
        let long = line.split_once(", ").map_or(line, |(_, long)| long);
        let name = long.strip_prefix("--").filter(|_| line.starts_with('-'))?;
        let end = name.find(|it: char| !it.is_ascii_alphanumeric() && it != '-' && it != '_');
        Some(format!("--{}", &name[..end.unwrap_or(name.len())]))
    };
    help.lines().filter_map(flag).collect()
}

/// The flags in the first column of the tables below a heading.
fn documented(heading: &str) -> BTreeSet<String> {
    let names = reference::documented(heading)
        .into_iter()
        .flat_map(|row| row.names);
    names.filter(|name| name.starts_with("--")).collect()
}

/// The texts in the sources below a directory that look like a variable's name, from files that read variables.
fn variables(directory: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(variables(&path));
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let program = text.split("#[cfg(test)]").next().unwrap();
        if program.contains("env::var") {
            found.extend(
                program
                    .split('"')
                    .filter(|it| is_variable(it))
                    .map(str::to_owned),
            );
        }
    }
    found
}

fn is_variable(text: &str) -> bool {
    let fits = |it: char| it.is_ascii_uppercase() || it.is_ascii_digit() || it == '_';
    text.contains('_') && text.chars().all(fits)
}

#[test]
fn every_flag_is_in_the_reference() {
    let programs = Programs::find().unwrap();
    for (program, path) in [
        ("flannel-agent", programs.flannel_agent()),
        ("service-proxy", programs.service_proxy()),
    ] {
        let mut told = told(path);
        assert!(told.len() > 20, "{program}: {told:?}");
        told.remove("--help");
        assert_eq!(documented(program), told, "{program}");
    }
}

#[test]
fn every_variable_is_in_the_reference() {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut read: BTreeSet<_> = ["flannel-agent/src", "service-proxy/src"]
        .iter()
        .flat_map(|sources| variables(&workspace.join(sources)))
        .collect();
    assert!(read.contains("NODE_NAME"), "{read:?}");
    read.extend(OF_LIBRARIES.map(str::to_owned));
    reference::every_key_is_documented("Environment", &read);
}
