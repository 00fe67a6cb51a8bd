//! `deploy/install.sh` into a root of its own, and back: every file is as it was.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use lab::Programs;

/// A file: its mode, and what is in it or where it points.
type File = (u32, Vec<u8>);

fn script(root: &Path, argument: impl AsRef<std::ffi::OsStr>) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/install.sh");
    let mut command = Command::new(script);
    command.arg(argument).env("PREFIX", root).output().unwrap()
}

/// A directory with links to the programs under test.
fn binaries(directory: &Path) -> PathBuf {
    let programs = Programs::find().unwrap();
    let binaries = directory.join("binaries");
    fs::create_dir(&binaries).unwrap();
    for program in [
        programs.cni_plugin(),
        programs.flannel_agent(),
        programs.service_proxy(),
    ] {
        symlink(&program, binaries.join(program.file_name().unwrap())).unwrap();
    }
    binaries
}

fn tree(root: &Path) -> BTreeMap<PathBuf, File> {
    let mut files = BTreeMap::new();
    let mut due = vec![root.to_owned()];
    while let Some(directory) = due.pop() {
        for entry in fs::read_dir(&directory).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            let contents = if metadata.is_dir() {
                due.push(path.clone());
                Vec::new()
            } else if metadata.is_symlink() {
                fs::read_link(&path)
                    .unwrap()
                    .into_os_string()
                    .into_encoded_bytes()
            } else {
                fs::read(&path).unwrap()
            };
            let name = path.strip_prefix(root).unwrap().to_owned();
            files.insert(name, (metadata.mode(), contents));
        }
    }
    files
}

/// A machine that has Go's plugins, one of them a link.
fn furnish(root: &Path) {
    let plugins = root.join("opt/cni/bin");
    fs::create_dir_all(&plugins).unwrap();
    fs::write(plugins.join("bridge"), "Go's bridge").unwrap();
    fs::set_permissions(plugins.join("bridge"), fs::Permissions::from_mode(0o750)).unwrap();
    fs::write(plugins.join("macvlan"), "Go's macvlan").unwrap();
    symlink("bridge", plugins.join("portmap")).unwrap();
    fs::create_dir_all(root.join("etc/cni/net.d")).unwrap();
    fs::write(root.join("etc/cni/net.d/10-flannel.conflist"), "{}").unwrap();
}

#[test]
fn what_is_installed_goes_again_and_what_was_there_comes_back() {
    let directory = tempfile::tempdir().unwrap();
    let binaries = binaries(directory.path());
    for furnished in [true, false] {
        let root = directory.path().join(format!("root-{furnished}"));
        fs::create_dir(&root).unwrap();
        if furnished {
            furnish(&root);
        }
        let before = tree(&root);
        // A second time changes nothing that the way back depends on.
        for _ in 0..2 {
            let output = script(&root, &binaries);
            assert!(output.status.success(), "{output:?}");
        }
        let version = Command::new(root.join("opt/cni/bin/portmap"))
            .env("CNI_COMMAND", "VERSION")
            .output()
            .unwrap();
        assert!(version.status.success(), "{version:?}");
        for path in [
            "usr/local/bin/flannel-agent",
            "usr/local/bin/service-proxy",
            "etc/cni/net.d/10-flannel.conflist",
            "etc/systemd/system/flannel-agent.service",
        ] {
            assert!(root.join(path).is_file(), "{path}");
        }
        let output = script(&root, "--uninstall");
        assert!(output.status.success(), "{output:?}");
        let mut after = tree(&root);
        // Directories above our notes may be anybody's.
        for directory in ["var", "var/lib"] {
            after.remove(Path::new(directory));
        }
        assert!(before.keys().eq(after.keys()), "{:?}", after.keys());
        assert!(before == after, "a file has changed");
    }
}

#[test]
fn nothing_is_done_where_something_is_missing() {
    let root = tempfile::tempdir().unwrap();
    for (argument, expected) in [
        ("/nonexistent", "no such program; build them by: make dist"),
        ("--uninstall", "nothing is installed"),
        ("--help", "usage: install.sh BINARIES"),
        ("", "usage: install.sh BINARIES"),
    ] {
        let output = script(root.path(), argument);
        assert_eq!(output.status.code(), Some(1), "{argument}");
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(said.contains(expected), "{said}");
        assert!(tree(root.path()).is_empty());
    }
}
