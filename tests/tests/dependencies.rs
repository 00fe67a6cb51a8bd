//! The dependencies keep to `deny.toml`, as far as that can be told without a network: licences, sources, duplicates and
//! bans. Nothing is allowed there that is not needed.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use cargo_metadata::{MetadataCommand, Package};
use serde::Deserialize;
use spdx::{Expression, LicenseReq, Licensee, ParseMode};

#[derive(Deserialize)]
struct Policy {
    graph: Graph,
    licenses: Licenses,
    bans: Bans,
    sources: Sources,
}

#[derive(Deserialize)]
struct Graph {
    targets: Vec<String>,
}

#[derive(Deserialize)]
struct Licenses {
    allow: Vec<String>,
}

#[derive(Deserialize)]
struct Bans {
    deny: Vec<Exception>,
    skip: Vec<Exception>,
}

/// A crate, with or without its version, and why.
#[derive(Deserialize)]
struct Exception {
    #[serde(rename = "crate")]
    name: String,
    reason: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Sources {
    allow_registry: Vec<String>,
}

fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn policy() -> Policy {
    toml::from_str(&fs::read_to_string(workspace().join("deny.toml")).unwrap()).unwrap()
}

/// The packages that are built for the targets of the policy, in tests too.
fn packages() -> Vec<Package> {
    let filters = policy().graph.targets;
    let filters = filters.iter().map(|it| format!("--filter-platform={it}"));
    let options = ["--offline".to_owned(), "--locked".to_owned()];
    let metadata = MetadataCommand::new()
        .manifest_path(workspace().join("Cargo.toml"))
        .other_options(options.into_iter().chain(filters).collect::<Vec<_>>())
        .exec()
        .unwrap();
    let built = metadata.resolve.unwrap().nodes;
    let built: BTreeSet<_> = built.into_iter().map(|node| node.id).collect();
    let packages = metadata.packages.into_iter();
    packages.filter(|it| built.contains(&it.id)).collect()
}

#[test]
fn licences_are_those_that_are_allowed() {
    let allowed: Vec<Licensee> = policy()
        .licenses
        .allow
        .iter()
        .map(|it| it.parse().unwrap())
        .collect();
    let mut used = vec![false; allowed.len()];
    let mut refused = Vec::new();
    for package in packages() {
        let stated = package.license.clone().unwrap_or_default();
        // Older crates write a slash for "or".
        let Ok(expression) = Expression::parse_mode(&stated, ParseMode::LAX) else {
            refused.push(format!("{}: {stated:?}", package.name));
            continue;
        };
        let mut satisfies = |asked: &LicenseReq| {
            let found = allowed.iter().position(|it| it.satisfies(asked));
            if let Some(index) = found {
                used[index] = true;
            }
            found.is_some()
        };
        if !expression.evaluate(&mut satisfies) {
            refused.push(format!("{}: {stated}", package.name));
        }
    }
    assert!(refused.is_empty(), "{refused:#?}");
    let unused: Vec<_> = allowed.iter().zip(used).filter(|(_, used)| !used).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

#[test]
fn no_crate_is_there_twice_without_a_reason() {
    let mut versions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for package in packages() {
        let of_crate = versions.entry(package.name.to_string()).or_default();
        of_crate.insert(package.version.to_string());
    }
    let skipped = policy().bans.skip;
    assert!(skipped.iter().all(|it| !it.reason.is_empty()));
    for skip in &skipped {
        let (name, version) = skip.name.split_once('@').unwrap();
        let there = versions.get_mut(name).filter(|it| it.len() > 1);
        let removed = there.is_some_and(|versions| versions.remove(version));
        assert!(removed, "{} need not be skipped", skip.name);
    }
    versions.retain(|_, versions| versions.len() > 1);
    assert!(versions.is_empty(), "{versions:?}");
}

#[test]
fn all_comes_from_the_registry_and_nothing_is_banned() {
    let Policy { bans, sources, .. } = policy();
    let banned: BTreeSet<_> = bans.deny.iter().map(|it| it.name.as_str()).collect();
    for package in packages() {
        if let Some(source) = &package.source {
            let url = source.repr.strip_prefix("registry+");
            let is_allowed =
                url.is_some_and(|url| sources.allow_registry.iter().any(|it| it == url));
            assert!(is_allowed, "{} is from {}", package.name, source.repr);
        } else {
            assert!(
                package.manifest_path.starts_with(metadata_root()),
                "{}",
                package.name
            );
        }
        assert!(!banned.contains(package.name.as_str()), "{}", package.name);
    }
}

fn metadata_root() -> std::path::PathBuf {
    workspace().canonicalize().unwrap()
}
