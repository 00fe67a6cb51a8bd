//! `docs/configuration.md` names every flag that the programs take, and none besides.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::Command,
};

use lab::Programs;

fn reference() -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    std::fs::read_to_string(path).unwrap()
}

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
    let text = reference();
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let flag = |line: &str| {
        Some(format!(
            "--{}",
            line.strip_prefix("| `--")?.split('`').next()?
        ))
    };
    section.lines().filter_map(flag).collect()
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
