//! What is in the image, for those who have to know: a CycloneDX 1.6 document of the programs, the crates that they are
//! built from and Debian's packages, with the hashes and dependencies of each
//! (<https://cyclonedx.org/docs/1.6/json/>).

use std::collections::BTreeMap;

use anyhow::Context;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::{
    crates::{Crate, PROGRAMS},
    debian,
    digest::sha256,
};

/// What is not percent-encoded in a package URL (purl-spec, "Character encoding").
const OF_PURL: AsciiSet = NON_ALPHANUMERIC
    .remove(b'.')
    .remove(b'-')
    .remove(b'_')
    .remove(b'~')
    .remove(b':');

/// What the document is about.
#[derive(Debug)]
pub struct Subject<'a> {
    /// The release.
    pub version: &'a str,
    /// The commit.
    pub revision: &'a str,
    /// The time of the commit, in seconds since 1970.
    pub created: u64,
    /// The programs in the image, by name.
    pub programs: BTreeMap<&'a str, Vec<u8>>,
}

/// The document, in a fixed order: the same input gives the same bytes.
///
/// # Errors
/// If the time is none, or a program is missing.
pub fn document(
    subject: &Subject<'_>,
    crates: &[Crate],
    packages: &[debian::Package],
) -> anyhow::Result<Value> {
    let mut components = Vec::new();
    for it in crates {
        components.push(of_crate(it, subject)?);
    }
    components.extend(packages.iter().map(of_package));
    let image = format!("tweed@{}", subject.version);
    let mut dependencies = vec![of_image(&image, crates, packages)];
    dependencies.extend(of_crates(crates));
    dependencies.extend(packages.iter().map(|it| json!({"ref": purl_of(it)})));
    let created = jiff::Timestamp::from_second(subject.created.try_into()?)?;
    let mut document = json!({
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "timestamp": created.to_string(),
            "tools": {"components": [{"type": "application", "name": "tweed-image", "version": subject.version}]},
            "component": {
                "type": "container",
                "bom-ref": image,
                "name": "tweed",
                "version": subject.version,
                "licenses": [{"expression": "Apache-2.0"}],
                "properties": [{"name": "tweed:revision", "value": subject.revision}],
            },
        },
        "components": components,
        "dependencies": dependencies,
    });
    document["serialNumber"] = serial_number(&document).into();
    Ok(document)
}

/// An UUID of what is in the document, so that equal ones have the same.
fn serial_number(document: &Value) -> String {
    let digest: [u8; 32] = Sha256::digest(document.to_string()).into();
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest[..16]);
    let id = uuid::Builder::from_custom_bytes(bytes).into_uuid();
    format!("urn:uuid:{id}")
}

fn of_crate(of: &Crate, subject: &Subject<'_>) -> anyhow::Result<Value> {
    let package = &of.package;
    let name = package.name.as_str();
    let is_program = PROGRAMS.contains(&name);
    let mut component = json!({
        "type": if is_program { "application" } else { "library" },
        "bom-ref": reference(of),
        "name": name,
        "version": package.version.to_string(),
        "licenses": package.license.iter().map(|it| json!({"expression": standard(it)})).collect::<Vec<_>>(),
    });
    if package.source.is_some() {
        component["purl"] = reference(of).into();
    }
    let checksum = if is_program {
        let program = subject.programs.get(name);
        let program = program.with_context(|| format!("{name} is not in the image"))?;
        Some(sha256(program))
    } else {
        of.checksum.clone()
    };
    if let Some(checksum) = checksum {
        component["hashes"] = hashes(&checksum);
    }
    Ok(component)
}

/// A crate's licence as an SPDX expression: older crates write `MIT/Apache-2.0`.
fn standard(stated: &str) -> String {
    let standard = spdx::Expression::canonicalize(stated).ok().flatten();
    standard.unwrap_or_else(|| stated.to_owned())
}

fn of_package(package: &debian::Package) -> Value {
    json!({
        "type": "library",
        "bom-ref": purl_of(package),
        "name": package.name,
        "version": package.version,
        "purl": purl_of(package),
        "hashes": hashes(&package.sha256),
    })
}

fn of_image(image: &str, crates: &[Crate], packages: &[debian::Package]) -> Value {
    let programs = crates
        .iter()
        .filter(|it| PROGRAMS.contains(&it.package.name.as_str()))
        .map(reference);
    let all: Vec<_> = programs.chain(packages.iter().map(purl_of)).collect();
    json!({"ref": image, "dependsOn": all})
}

fn of_crates(crates: &[Crate]) -> impl Iterator<Item = Value> {
    let references: BTreeMap<_, _> = crates
        .iter()
        .map(|it| (&it.package.id, reference(it)))
        .collect();
    crates.iter().map(move |of| {
        let upon = of.depends_on.iter().filter_map(|id| references.get(id));
        json!({"ref": reference(of), "dependsOn": upon.collect::<Vec<_>>()})
    })
}

/// Crates of this workspace are in no registry, so that a package URL would name somebody else's.
fn reference(of: &Crate) -> String {
    if of.package.source.is_none() {
        return format!("tweed/{}@{}", of.package.name, of.package.version);
    }
    purl(
        "cargo",
        of.package.name.as_str(),
        &of.package.version.to_string(),
    )
}

fn purl_of(package: &debian::Package) -> String {
    let plain = purl("deb/debian", &package.name, &package.version);
    format!("{plain}?arch={}", package.architecture)
}

/// A package URL (<https://github.com/package-url/purl-spec>).
fn purl(kind: &str, name: &str, version: &str) -> String {
    let encoded = |text| utf8_percent_encode(text, &OF_PURL).to_string();
    format!("pkg:{kind}/{}@{}", encoded(name), encoded(version))
}

fn hashes(sha256: &str) -> Value {
    json!([{"alg": "SHA-256", "content": sha256}])
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::{collections::BTreeSet, path::Path};

    use super::*;
    use crate::crates;

    fn sample() -> Value {
        let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let crates = crates::of_programs(&workspace).unwrap();
        let subject = Subject {
            version: "0.1.0",
            revision: "abcdef",
            created: 1_763_800_000,
            programs: PROGRAMS.map(|it| (it, it.into())).into(),
        };
        let package = debian::Package {
            name: "libstdc++6".into(),
            version: "1:2.36-9+deb12u10~1".into(),
            architecture: "amd64".into(),
            sha256: sha256(b"package"),
        };
        document(&subject, &crates, &[package]).unwrap()
    }

    fn texts<'a>(items: &'a Value, key: &str) -> Vec<&'a str> {
        let items = items.as_array().unwrap().iter();
        items.map(|it| it[key].as_str().unwrap()).collect()
    }

    /// The patterns are those of CycloneDX' schema of 1.6.
    #[test]
    fn the_document_is_as_cyclonedx_asks_for() {
        let document = sample();
        let serial = document["serialNumber"].as_str().unwrap();
        let id = serial.strip_prefix("urn:uuid:").unwrap();
        assert_eq!(uuid::Uuid::parse_str(id).unwrap().to_string(), id);
        let time = document["metadata"]["timestamp"].as_str().unwrap();
        assert!(
            time.parse::<jiff::Timestamp>().is_ok() && time.ends_with('Z'),
            "{time}"
        );
        for component in document["components"].as_array().unwrap() {
            for hash in component["hashes"].as_array().into_iter().flatten() {
                let content = hash["content"].as_str().unwrap();
                let is_hex = |it: char| it.is_ascii_digit() || ('a'..='f').contains(&it);
                assert!(
                    content.len() == 64 && content.chars().all(is_hex),
                    "{component}"
                );
                assert_eq!(hash["alg"], "SHA-256");
            }
            let is_known = component["purl"].is_null() || component["purl"] == component["bom-ref"];
            assert!(is_known, "{component}");
            // A list has one expression, or none.
            let licences = component["licenses"].as_array().map_or(0, Vec::len);
            assert!(licences <= 1, "{component}");
            let kind = component["type"].as_str().unwrap();
            assert!(["application", "library"].contains(&kind));
        }
    }

    #[test]
    fn every_reference_is_to_one_component() {
        let document = sample();
        let mut known = texts(&document["components"], "bom-ref");
        known.push(
            document["metadata"]["component"]["bom-ref"]
                .as_str()
                .unwrap(),
        );
        let unique: BTreeSet<_> = known.iter().copied().collect();
        assert_eq!(unique.len(), known.len());
        let told = texts(&document["dependencies"], "ref");
        assert_eq!(unique, told.into_iter().collect());
        let upon = document["dependencies"].as_array().unwrap().iter();
        let upon = upon.flat_map(|it| it["dependsOn"].as_array().into_iter().flatten());
        let upon: BTreeSet<_> = upon.map(|it| it.as_str().unwrap()).collect();
        assert!(upon.is_subset(&unique), "{:?}", upon.difference(&unique));
        assert!(upon.len() > 100, "{}", upon.len());
    }

    #[test]
    fn all_but_crates_of_this_workspace_have_hashes() {
        let document = sample();
        let components = document["components"].as_array().unwrap().iter();
        let without: Vec<_> = components.filter(|it| it["hashes"].is_null()).collect();
        let names: Vec<_> = without
            .iter()
            .map(|it| it["name"].as_str().unwrap())
            .collect();
        assert_eq!(names, ["kernel", "outage", "release"]);
    }

    #[test]
    fn equal_input_gives_equal_documents() {
        assert_eq!(sample(), sample());
    }

    #[test]
    fn versions_are_encoded() {
        for (kind, name, version, expected) in [
            (
                "cargo",
                "etcd-client",
                "0.17.0",
                "pkg:cargo/etcd-client@0.17.0",
            ),
            (
                "cargo",
                "toml",
                "1.2.1+spec-1.1.0",
                "pkg:cargo/toml@1.2.1%2Bspec-1.1.0",
            ),
            (
                "deb/debian",
                "libc6",
                "1:2.36-9~1",
                "pkg:deb/debian/libc6@1:2.36-9~1",
            ),
            (
                "deb/debian",
                "libstdc++6",
                "12",
                "pkg:deb/debian/libstdc%2B%2B6@12",
            ),
        ] {
            assert_eq!(purl(kind, name, version), expected);
        }
    }

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
