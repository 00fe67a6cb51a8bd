//! Writes the container image of the three programs as an OCI archive. No container engine is needed, and the
//! same input gives the same bytes. `build.sh` beside this builds the programs and fetches the packages.

mod crates;
mod debian;
mod digest;
mod notices;
mod oci;
mod root_fs;
mod sbom;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use clap::Parser;

use crate::{
    debian::Package,
    oci::{About, Layer},
    root_fs::{Node, RootFs},
    sbom::Subject,
};

/// Where the software bill of materials is in the image.
const SBOM: &str = "usr/share/doc/tweed/sbom.cdx.json";
/// Where the licences of the crates in the programs are.
const NOTICES: &str = "usr/share/doc/tweed/third-party-licences.txt";

/// Writes the container image of Tweed.
#[derive(Debug, Parser)]
struct Options {
    /// Directory of the built programs.
    #[arg(long)]
    binaries: PathBuf,
    /// Directory of the Debian packages that iptables mode needs (*.deb).
    #[arg(long)]
    packages: PathBuf,
    /// The workspace: its licence and its dependencies.
    #[arg(long, default_value = ".")]
    workspace: PathBuf,
    /// The commit that the programs are built from.
    #[arg(long)]
    revision: String,
    /// The time of that commit, in seconds since 1970.
    #[arg(long)]
    created: u64,
    /// Name and tag of the image.
    #[arg(long)]
    reference: String,
    /// The archive to write.
    #[arg(long)]
    output: PathBuf,
}

fn main() -> anyhow::Result<()> {
    let options = Options::parse();
    let (base, packages) = base(&options.packages)?;
    let layers = [
        Layer {
            files: base,
            made_by: "iptables and its libraries, from Debian's packages".into(),
        },
        Layer {
            files: programs(&options, &packages)?,
            made_by: format!("Tweed {}", options.revision),
        },
    ];
    let archive = oci::archive(&layers, &about(&options))?;
    fs::write(&options.output, &archive)
        .with_context(|| format!("write {}", options.output.display()))?;
    let mebibytes = archive.len() as f64 / f64::from(1 << 20);
    println!(
        "{}: {} ({mebibytes:.1} MiB)",
        options.output.display(),
        options.reference
    );
    Ok(())
}

/// iptables of both kinds, for iptables mode, and what they run on.
fn base(directory: &Path) -> anyhow::Result<(RootFs, Vec<Package>)> {
    let mut files = RootFs::default();
    for top in ["bin", "sbin", "lib", "lib64"] {
        files.link(top, &format!("usr/{top}"));
    }
    for directory in [
        "usr/bin",
        "usr/sbin",
        "usr/lib",
        "usr/lib64",
        "run",
        "tmp",
        "proc",
        "sys",
        "dev",
    ] {
        files.insert(directory, Node::Directory);
    }
    let mut packages = Vec::new();
    for path in with_extension(directory, "deb")? {
        packages.push(debian::unpack(&path, &mut files)?);
    }
    anyhow::ensure!(!packages.is_empty(), "{}: no *.deb", directory.display());
    packages.sort();
    // What Debian's alternatives would link.
    for family in ["iptables", "ip6tables"] {
        for action in ["", "-save", "-restore"] {
            let name = format!("usr/sbin/{family}{action}");
            files.link(&name, &format!("{family}-nft{action}"));
        }
    }
    Ok((files, packages))
}

/// The programs, their licence, and what they are made of.
fn programs(options: &Options, packages: &[Package]) -> anyhow::Result<RootFs> {
    let mut files = RootFs::default();
    let mut insert = |path: String, executable, contents| {
        files.insert(
            path,
            Node::File {
                executable,
                contents,
            },
        );
    };
    let mut programs = BTreeMap::new();
    for name in crates::PROGRAMS {
        let path = options.binaries.join(name);
        let contents = fs::read(&path).with_context(|| format!("read {}", path.display()))?;
        programs.insert(name, contents.clone());
        insert(format!("usr/bin/{name}"), true, contents);
    }
    let licence = options.workspace.join("LICENSE");
    let licence = fs::read(&licence).with_context(|| format!("read {}", licence.display()))?;
    insert("usr/share/doc/tweed/copyright".into(), false, licence);
    let subject = Subject {
        version: env!("CARGO_PKG_VERSION"),
        revision: &options.revision,
        created: options.created,
        programs,
    };
    let crates = crates::of_programs(&options.workspace)?;
    let sbom = sbom::document(&subject, &crates, packages)?;
    insert(SBOM.into(), false, serde_json::to_vec_pretty(&sbom)?);
    insert(NOTICES.into(), false, notices::document(&crates)?.into());
    Ok(files)
}

fn about(options: &Options) -> About {
    let labels = [
        ("title", "tweed"),
        (
            "description",
            "Pod networking for Kubernetes nodes: flannel-agent, cni-plugin, service-proxy",
        ),
        ("licenses", "Apache-2.0"),
        ("version", env!("CARGO_PKG_VERSION")),
        ("revision", &options.revision),
    ];
    About {
        reference: options.reference.clone(),
        created: options.created,
        labels: labels
            .map(|(key, value)| (format!("org.opencontainers.image.{key}"), value.to_owned()))
            .into_iter()
            .collect::<HashMap<_, _>>(),
    }
}

/// The files of a directory with an extension, in order.
fn with_extension(directory: &Path, extension: &str) -> anyhow::Result<Vec<PathBuf>> {
    let entries =
        fs::read_dir(directory).with_context(|| format!("read {}", directory.display()))?;
    let mut paths = Vec::new();
    for entry in entries {
        let path = entry?.path();
        if path.extension().is_some_and(|it| it == extension) {
            paths.push(path);
        }
    }
    paths.sort();
    Ok(paths)
}
