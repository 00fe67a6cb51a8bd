//! The crates that end up in the programs, what each is built upon, and the hashes by which `Cargo.lock` pins them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

use anyhow::Context;
use cargo_metadata::{
    CargoOpt, DependencyKind, Metadata, MetadataCommand, Node, NodeDep, Package, PackageId, Resolve,
};
use serde::Deserialize;

/// The programs of the image.
pub const PROGRAMS: [&str; 3] = ["cni-plugin", "flannel-agent", "service-proxy"];

/// A crate that is in one of the programs.
#[derive(Clone, Debug)]
pub struct Crate {
    /// What cargo knows of it.
    pub package: Package,
    /// The SHA-256 of its archive, in hexadecimal digits; those of this workspace have none.
    pub checksum: Option<String>,
    /// What it is built upon.
    pub depends_on: BTreeSet<PackageId>,
}

#[derive(Deserialize)]
struct Lock {
    package: Vec<Locked>,
}

#[derive(Deserialize)]
struct Locked {
    name: String,
    version: String,
    checksum: Option<String>,
}

/// The crates that end up in the programs, by name and version: no tests, no build scripts, nothing for other machines.
///
/// # Errors
/// If cargo can't tell, or a crate of a registry has no hash in `Cargo.lock`.
pub fn of_programs(workspace: &Path) -> anyhow::Result<Vec<Crate>> {
    let metadata = ask_cargo(workspace)?;
    let resolve = metadata.resolve.as_ref();
    let resolve = resolve.context("cargo resolves nothing")?;
    let built = built(&metadata, resolve);
    let checksums = checksums(&workspace.join("Cargo.lock"))?;
    let mut crates = Vec::new();
    for package in metadata
        .packages
        .iter()
        .filter(|it| built.contains_key(&it.id))
    {
        let key = (package.name.to_string(), package.version.to_string());
        let checksum = checksums.get(&key).cloned().flatten();
        anyhow::ensure!(
            checksum.is_some() || package.source.is_none(),
            "Cargo.lock has no checksum of {} {}",
            package.name,
            package.version
        );
        crates.push(Crate {
            package: package.clone(),
            checksum,
            depends_on: built[&package.id].clone(),
        });
    }
    crates.sort_by(|a, b| {
        (&a.package.name, &a.package.version).cmp(&(&b.package.name, &b.package.version))
    });
    Ok(crates)
}

fn ask_cargo(workspace: &Path) -> anyhow::Result<Metadata> {
    MetadataCommand::new()
        .manifest_path(workspace.join("Cargo.toml"))
        .features(CargoOpt::SomeFeatures(Vec::new()))
        .other_options([
            "--locked".to_owned(),
            "--filter-platform=x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .context("ask cargo for the dependencies")
}

/// Each crate that is built, and what it is built upon.
fn built(metadata: &Metadata, resolve: &Resolve) -> BTreeMap<PackageId, BTreeSet<PackageId>> {
    let nodes: BTreeMap<_, _> = resolve.nodes.iter().map(|it| (&it.id, it)).collect();
    let members = metadata.workspace_packages().into_iter();
    let programs = members.filter(|it| PROGRAMS.contains(&it.name.as_str()));
    let mut due: Vec<&PackageId> = programs.map(|it| &it.id).collect();
    let mut met = BTreeMap::new();
    while let Some(id) = due.pop() {
        if met.contains_key(id) {
            continue;
        }
        let upon: BTreeSet<_> = nodes
            .get(id)
            .into_iter()
            .flat_map(|it| built_in(it))
            .collect();
        due.extend(upon.iter().copied());
        met.insert(id.clone(), upon.into_iter().cloned().collect());
    }
    met
}

fn built_in(node: &Node) -> impl Iterator<Item = &PackageId> {
    let is_normal = |it: &&NodeDep| {
        it.dep_kinds
            .iter()
            .any(|kind| kind.kind == DependencyKind::Normal)
    };
    node.deps.iter().filter(is_normal).map(|it| &it.pkg)
}

fn checksums(lock: &Path) -> anyhow::Result<BTreeMap<(String, String), Option<String>>> {
    let text = fs::read_to_string(lock).with_context(|| format!("read {}", lock.display()))?;
    let lock: Lock =
        toml::from_str(&text).with_context(|| format!("understand {}", lock.display()))?;
    let packages = lock.package.into_iter();
    Ok(packages
        .map(|it| ((it.name, it.version), it.checksum))
        .collect())
}
