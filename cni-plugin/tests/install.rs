//! `cni-plugin install DIR [CONFLIST FILE]`.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::process::Command;

#[test]
fn installed_names_are_plugins() {
    let directory = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_cni-plugin"))
        .arg("install")
        .arg(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    for name in ["flannel", "bridge", "host-local", "tuning"] {
        let path = directory.path().join(name);
        assert!(
            told.contains(&format!("installed {}\n", path.display())),
            "{told}"
        );
        let version = Command::new(path)
            .env("CNI_COMMAND", "VERSION")
            .output()
            .unwrap();
        assert!(version.status.success(), "{version:?}");
    }
}

#[test]
fn other_arguments_get_the_usage() {
    for arguments in [
        &[][..],
        &["remove", "/"],
        &["install"],
        &["install", "a", "b"],
        &["remove", "a", "b", "c"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_cni-plugin"))
            .args(arguments)
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(
            told.starts_with("usage: cni-plugin install DIR [CONFLIST FILE]\n"),
            "{told}"
        );
    }
}

#[test]
fn the_deployed_list_is_installed_behind_its_plugins() {
    let directory = tempfile::tempdir().unwrap();
    let conflist = concat!(env!("CARGO_MANIFEST_DIR"), "/../deploy/10-flannel.conflist");
    let installed = directory.path().join("10-flannel.conflist");
    let output = Command::new(env!("CARGO_BIN_EXE_cni-plugin"))
        .arg("install")
        .args([directory.path(), conflist.as_ref(), &installed])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    assert_eq!(
        std::fs::read(installed).unwrap(),
        std::fs::read(conflist).unwrap()
    );
}

#[test]
fn the_version_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_cni-plugin"))
        .arg("--version")
        .output()
        .unwrap();
    assert_eq!(
        String::from_utf8(output.stdout).unwrap(),
        format!("tweed cni-plugin {}\n", release::text())
    );
    assert!(output.status.success());
}
