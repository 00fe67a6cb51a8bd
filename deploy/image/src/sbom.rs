//! What is in the image, for those who have to know: a CycloneDX 1.6 document of the crates that the programs
//! are built from and of Debian's packages.

use std::{collections::BTreeSet, path::Path};

use anyhow::Context;
use cargo_metadata::{CargoOpt, DependencyKind, MetadataCommand, Node, Package, PackageId};
use serde_json::{Value, json};

use crate::debian;

/// The programs of the image.
pub const PROGRAMS: [&str; 3] = ["cni-plugin", "flannel-agent", "service-proxy"];

/// The document, with components in a fixed order.
pub fn document(crates: &[Package], packages: &[debian::Package], version: &str) -> Value {
    let mut components: Vec<Value> = crates.iter().map(of_crate).collect();
    components.extend(packages.iter().map(of_package));
    json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {"type": "container", "name": "tweed", "version": version}},
        "components": components,
    })
}

/// The crates that end up in the programs: no tests, no build scripts, nothing for other machines.
pub fn crates(manifest: &Path) -> anyhow::Result<Vec<Package>> {
    let metadata = MetadataCommand::new()
        .manifest_path(manifest)
        .features(CargoOpt::SomeFeatures(Vec::new()))
        .other_options([
            "--locked".to_owned(),
            "--filter-platform=x86_64-unknown-linux-gnu".to_owned(),
        ])
        .exec()
        .context("ask cargo for the dependencies")?;
    let resolve = metadata
        .resolve
        .as_ref()
        .context("cargo resolves nothing")?;
    let mut due: Vec<&PackageId> = metadata
        .workspace_packages()
        .iter()
        .filter(|it| PROGRAMS.contains(&it.name.as_str()))
        .map(|it| &it.id)
        .collect();
    let mut met = BTreeSet::new();
    while let Some(id) = due.pop() {
        if met.insert(id) {
            let node = resolve.nodes.iter().find(|node| node.id == *id);
            due.extend(node.into_iter().flat_map(built_in));
        }
    }
    let mut crates: Vec<_> = metadata
        .packages
        .iter()
        .filter(|it| met.contains(&it.id))
        .cloned()
        .collect();
    crates.sort_by(|a, b| (&a.name, &a.version).cmp(&(&b.name, &b.version)));
    Ok(crates)
}

fn built_in(node: &Node) -> impl Iterator<Item = &PackageId> {
    let is_normal = |it: &&cargo_metadata::NodeDep| {
        it.dep_kinds
            .iter()
            .any(|kind| kind.kind == DependencyKind::Normal)
    };
    node.deps.iter().filter(is_normal).map(|it| &it.pkg)
}

fn of_crate(package: &Package) -> Value {
    json!({
        "type": "library",
        "name": package.name.as_str(),
        "version": package.version.to_string(),
        "purl": format!("pkg:cargo/{}@{}", package.name, package.version),
        "licenses": package.license.iter().map(|it| json!({"expression": standard(it)})).collect::<Vec<_>>(),
    })
}

/// A crate's licence as an SPDX expression: older crates write `MIT/Apache-2.0`.
fn standard(stated: &str) -> String {
    let standard = spdx::Expression::canonicalize(stated).ok().flatten();
    standard.unwrap_or_else(|| stated.to_owned())
}

fn of_package(package: &debian::Package) -> Value {
    json!({
        "type": "library",
        "name": package.name,
        "version": package.version,
        "purl": format!("pkg:deb/debian/{}@{}", package.name, package.version),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn licences_are_spdx_expressions() {
        for (stated, expression) in [
            ("MIT/Apache-2.0", "MIT OR Apache-2.0"),
            ("Apache-2.0 / MIT", "Apache-2.0 OR MIT"),
            (
                "(MIT OR Apache-2.0) AND Unicode-3.0",
                "(MIT OR Apache-2.0) AND Unicode-3.0",
            ),
        ] {
            assert_eq!(standard(stated), expression);
        }
    }
}
