//! Debian packages as parts of the image: of each, what a program needs to run, and its copyright.

use std::{
    fs,
    io::{self, Read},
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, bail, ensure};
use tar::EntryType;

use crate::{
    digest::sha256,
    root_fs::{Node, RootFs},
};

/// What of a package goes into the image: programs, libraries, names of protocols, and the copyright that its
/// licence asks to pass on.
const WANTED: [&str; 4] = ["usr/sbin/", "usr/lib/", "etc/protocols", "usr/share/doc/"];

/// Of that, what nobody needs there.
const UNWANTED: [&str; 4] = [
    "usr/lib/x86_64-linux-gnu/gconv/",
    "usr/lib/x86_64-linux-gnu/audit/",
    "usr/sbin/nfnl_osf",
    "usr/sbin/iptables-apply",
];

/// A package.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// What processors it is for, as Debian names them.
    pub architecture: String,
    /// The SHA-256 of its file, in hexadecimal digits, as Debian's index has it.
    pub sha256: String,
}

/// Puts a package's files into a tree.
pub fn unpack(file: &Path, tree: &mut RootFs) -> anyhow::Result<Package> {
    let bytes = fs::read(file).with_context(|| format!("read {}", file.display()))?;
    let package = Package {
        name: field(file, "Package")?,
        version: field(file, "Version")?,
        architecture: field(file, "Architecture")?,
        sha256: sha256(&bytes),
    };
    let mut child = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(file)
        .stdout(Stdio::piped())
        .spawn()
        .context("run dpkg-deb")?;
    let pipe = child.stdout.take().context("dpkg-deb has no output")?;
    let unpacked = take_files(pipe, tree);
    let status = child.wait().context("wait for dpkg-deb")?;
    unpacked.with_context(|| format!("unpack {}", file.display()))?;
    ensure!(status.success(), "unpack {}: {status}", file.display());
    Ok(package)
}

fn field(file: &Path, name: &str) -> anyhow::Result<String> {
    let output = Command::new("dpkg-deb")
        .arg("--field")
        .arg(file)
        .arg(name)
        .output()
        .context("run dpkg-deb")?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("read {name} of {}: {}", file.display(), said.trim());
    }
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}

fn take_files(archive: impl Read, tree: &mut RootFs) -> anyhow::Result<()> {
    for entry in tar::Archive::new(archive).entries()? {
        let mut entry = entry?;
        let path = merged(&entry.path()?)?;
        if !is_wanted(&path) {
            continue;
        }
        let node = match entry.header().entry_type() {
            EntryType::Regular => {
                let executable = entry.header().mode()? & 0o111 != 0;
                let mut contents = Vec::new();
                entry.read_to_end(&mut contents)?;
                Node::File {
                    executable,
                    contents,
                }
            }
            EntryType::Symlink => {
                let target = entry.link_name()?;
                Node::Symlink(target.context("a link to nowhere")?.into_owned())
            }
            EntryType::Directory => continue,
            other => bail!("{}: {other:?} is not expected", path.display()),
        };
        tree.insert(path, node);
    }
    Ok(())
}

/// The path where the file is on a system with /bin, /sbin and /lib merged into /usr.
fn merged(path: &Path) -> io::Result<PathBuf> {
    let plain: PathBuf = path
        .components()
        .filter(|it| matches!(it, Component::Normal(_)))
        .collect();
    if path.components().any(|it| it == Component::ParentDir) {
        return Err(io::Error::other(format!("{} leads out", path.display())));
    }
    let moved = ["bin", "sbin", "lib", "lib64"]
        .iter()
        .any(|top| plain.starts_with(top));
    Ok(if moved {
        Path::new("usr").join(plain)
    } else {
        plain
    })
}

fn is_wanted(path: &Path) -> bool {
    let Some(path) = path.to_str() else {
        return false;
    };
    let begins = |prefixes: &[&str]| prefixes.iter().any(|prefix| path.starts_with(prefix));
    let is_copyright = path.starts_with("usr/share/doc/") == path.ends_with("/copyright");
    let is_loader = path.starts_with("usr/lib64/");
    (begins(&WANTED) || is_loader) && !begins(&UNWANTED) && is_copyright
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn only_what_runs_and_its_copyright_is_taken() {
        for (path, at, wanted) in [
            (
                "./lib/x86_64-linux-gnu/libc.so.6",
                "usr/lib/x86_64-linux-gnu/libc.so.6",
                true,
            ),
            (
                "./lib64/ld-linux-x86-64.so.2",
                "usr/lib64/ld-linux-x86-64.so.2",
                true,
            ),
            (
                "./usr/sbin/xtables-nft-multi",
                "usr/sbin/xtables-nft-multi",
                true,
            ),
            (
                "./usr/share/doc/iptables/copyright",
                "usr/share/doc/iptables/copyright",
                true,
            ),
            (
                "./usr/share/doc/iptables/changelog.gz",
                "usr/share/doc/iptables/changelog.gz",
                false,
            ),
            (
                "./usr/share/man/man8/iptables.8.gz",
                "usr/share/man/man8/iptables.8.gz",
                false,
            ),
            (
                "./usr/lib/x86_64-linux-gnu/gconv/UTF-7.so",
                "usr/lib/x86_64-linux-gnu/gconv/UTF-7.so",
                false,
            ),
            ("./etc/protocols", "etc/protocols", true),
        ] {
            let merged = merged(Path::new(path)).unwrap();
            assert_eq!(merged, Path::new(at));
            assert_eq!(is_wanted(&merged), wanted, "{path}");
        }
        assert!(merged(Path::new("./usr/../../etc/passwd")).is_err());
    }
}
