//! The licences of the crates in the programs, as they ask to be passed on: each text once, with the crates that came with it.

use std::{collections::BTreeMap, fmt::Write as _, fs, io, path::Path};

use anyhow::Context;
use cargo_metadata::Package;

use crate::crates::Crate;

/// How the names of files begin that a crate keeps its licence in.
const NAMES: [&str; 5] = ["LICEN", "COPYING", "COPYRIGHT", "NOTICE", "UNLICENSE"];

/// The document, in a fixed order.
pub fn document(crates: &[Crate]) -> anyhow::Result<String> {
    let mut by_text: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for package in of_others(crates) {
        let texts = texts(package).with_context(|| format!("licence of {}", package.name))?;
        for text in texts {
            let holders = by_text.entry(text).or_default();
            holders.push(format!("{} {}", package.name, package.version));
        }
    }
    let mut groups: Vec<_> = by_text.into_iter().collect();
    groups.sort_by(|one, other| (&one.1, &one.0).cmp(&(&other.1, &other.0)));
    let mut document = String::from("What of others is in the programs, and under which terms.\n");
    for (text, mut holders) in groups {
        holders.dedup();
        let rule = "=".repeat(80);
        write!(
            document,
            "\n{rule}\n{}\n{rule}\n\n{text}\n",
            holders.join("\n")
        )?;
    }
    Ok(document)
}

fn of_others(crates: &[Crate]) -> impl Iterator<Item = &Package> {
    let packages = crates.iter().map(|it| &it.package);
    packages.filter(|it| it.source.is_some())
}

/// The texts that come with a crate; of one that brings none, those of the licences that it names.
fn texts(package: &Package) -> anyhow::Result<Vec<String>> {
    let directory = package.manifest_path.parent();
    let directory = directory.context("a manifest has no directory")?;
    let found = files(directory.as_std_path())?;
    if !found.is_empty() {
        return Ok(found);
    }
    let stated = package.license.as_deref().context("none is named")?;
    let expression = spdx::Expression::parse_mode(stated, spdx::ParseMode::LAX)?;
    let named = expression
        .requirements()
        .filter_map(|it| it.req.license.id());
    let authors = package.authors.join(", ");
    Ok(named
        .map(|it| tidy(&format!("Authors: {authors}\n\n{}", it.text())))
        .collect())
}

fn files(directory: &Path) -> io::Result<Vec<String>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().to_uppercase();
        if NAMES.iter().any(|it| name.starts_with(it)) && entry.file_type()?.is_file() {
            paths.push(entry.path());
        }
    }
    paths.sort();
    let read = paths.iter().map(fs::read);
    read.map(|bytes| Ok(tidy(&String::from_utf8_lossy(&bytes?))))
        .collect()
}

/// Without what makes equal texts differ: ends of lines, and empty lines around them.
fn tidy(text: &str) -> String {
    let lines: Vec<_> = text.lines().map(str::trim_end).collect();
    lines.join("\n").trim_matches('\n').to_owned()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;
    use crate::crates;

    #[test]
    fn every_crate_has_a_text() {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let crates = crates::of_programs(&workspace).unwrap();
        let document = document(&crates).unwrap();
        for package in of_others(&crates) {
            let line = format!("{} {}", package.name, package.version);
            assert!(document.lines().any(|it| it == line), "{line}");
        }
        let begins = "Permission is hereby granted, free of charge";
        assert!(document.matches(begins).count() > 10);
    }

    #[test]
    fn equal_texts_are_equal() {
        assert_eq!(tidy("\r\nA  \r\n\r\nB\n\n"), "A\n\nB");
    }
}
