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

/// Whoever has called has no answer, which the exit code tells.
#[test]
fn an_answer_that_nobody_reads_is_a_failure_and_no_panic() {
    let directory = tempfile::tempdir().unwrap();
    let plugin = directory.path().join("bridge");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_cni-plugin"), &plugin).unwrap();
    let mut asked = Command::new(&plugin);
    asked.env("CNI_COMMAND", "VERSION");
    let mut about = Command::new(&plugin);
    about.env_remove("CNI_COMMAND");
    let mut version = Command::new(env!("CARGO_BIN_EXE_cni-plugin"));
    version.arg("--version");
    let usage = Command::new(env!("CARGO_BIN_EXE_cni-plugin"));
    for mut command in [asked, about, version, usage] {
        let (_, stdout) = std::io::pipe().unwrap();
        let (_, stderr) = std::io::pipe().unwrap();
        command.stdout(stdout).stderr(stderr);
        assert_eq!(command.status().unwrap().code(), Some(1), "{command:?}");
    }
}
