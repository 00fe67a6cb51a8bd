//! The script, killed at every moment at which it is about to change a file or has just done so: run again it finishes,
//! and `--uninstall` finds everything that it has to put back. Some of the moments are tried; `TWEED_INSTALL_STRIDE=1` tries all.

use std::{
    env, fs,
    os::unix::{fs::PermissionsExt, process::ExitStatusExt},
    path::{Path, PathBuf},
    process::Command,
};

use lab::Programs;

use crate::{assert_same, furnish, install_script, script, tree};

/// With what the script changes files.
const CHANGING: [&str; 7] = ["chmod", "cp", "mkdir", "mv", "rm", "rmdir", "touch"];
/// Does what the program of its name does, and kills the script before or after the call of a number.
const KILLS: &str = r#"#!/bin/bash
read -r calls <"$CALLS"
echo $((++calls)) >"$CALLS"
[ "$calls $WHEN" != "$AT before" ] || { kill -KILL "$SCRIPT"; exit; }
PATH=$REAL_PATH
"${0##*/}" "$@" || status=$?
[ "$calls $WHEN" != "$AT after" ] || kill -KILL "$SCRIPT"
exit ${status:-0}
"#;

/// A directory of programs to install, and one of those that kill.
struct Bench {
    directory: tempfile::TempDir,
    binaries: PathBuf,
}

// === impl Bench ===

impl Bench {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let binaries = directory.path().join("binaries");
        let bin = directory.path().join("bin");
        for path in [&binaries, &bin] {
            fs::create_dir(path).unwrap();
        }
        for name in CHANGING {
            write(&bin.join(name), KILLS);
        }
        // The daemons are only copied; what debuggers need of the plugin would take its time hundreds of times.
        for name in ["flannel-agent", "service-proxy"] {
            write(&binaries.join(name), name);
        }
        let stripped = Command::new("strip")
            .arg("-o")
            .arg(binaries.join("cni-plugin"))
            .arg(Programs::find().unwrap().cni_plugin())
            .status()
            .unwrap();
        assert!(stripped.success());
        Self {
            directory,
            binaries,
        }
    }

    /// A root with files of others.
    fn root(&self) -> tempfile::TempDir {
        let root = tempfile::tempdir_in(self.directory.path()).unwrap();
        furnish(root.path());
        root
    }

    /// Runs the script until a call; whether it came to that.
    fn is_killed(&self, root: &Path, argument: &str, when: &str, at: usize) -> bool {
        let calls = self.directory.path().join("calls");
        fs::write(&calls, "0\n").unwrap();
        let path = env::var("PATH").unwrap();
        let bin = self.directory.path().join("bin");
        let output = Command::new("sh")
            .args(["-c", r#"export SCRIPT=$$; exec "$@""#, "sh"])
            .arg(install_script())
            .arg(argument)
            .env("PATH", format!("{}:{path}", bin.display()))
            .env("REAL_PATH", path)
            .env("CALLS", calls)
            .env("WHEN", when)
            .env("AT", at.to_string())
            .env("PREFIX", root)
            .output()
            .unwrap();
        let killed = output.status.signal() == Some(nix::libc::SIGKILL);
        assert!(killed || output.status.success(), "{output:?}");
        killed
    }

    fn install(&self, root: &Path) {
        let output = script(root, &self.binaries);
        assert!(output.status.success(), "{output:?}");
    }
}

fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// Uninstalls what there is, which may be nothing yet, or no longer.
fn uninstall(root: &Path) {
    let output = script(root, "--uninstall");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() || said.contains("nothing is installed"),
        "{output:?}"
    );
}

/// How many calls lie between two that are tried.
fn stride() -> usize {
    let given = env::var("TWEED_INSTALL_STRIDE").ok();
    given.map_or(17, |it| it.parse().unwrap())
}

/// Kills at one moment after the other, before calls and after them, and hands each root to `check`.
fn at_every_moment(
    bench: &Bench,
    argument: &str,
    prepare: impl Fn(&Path),
    check: impl Fn(&Path, &str),
) {
    for when in ["before", "after"] {
        let mut at = 1;
        loop {
            let root = bench.root();
            prepare(root.path());
            if !bench.is_killed(root.path(), argument, when, at) {
                break;
            }
            check(root.path(), &format!("{argument}: killed {when} call {at}"));
            at += stride();
        }
        assert!(at > 20, "{at}");
    }
}

#[test]
fn an_installation_that_was_broken_off_can_be_undone_and_finished() {
    let bench = Bench::new();
    let before = tree(bench.root().path());
    let binaries = bench.binaries.to_str().unwrap();
    let again = std::cell::Cell::new(false);
    at_every_moment(
        &bench,
        binaries,
        |_| {},
        |root, moment| {
            // By turns, as each takes its time.
            if again.replace(!again.get()) {
                bench.install(root);
                assert!(
                    root.join("etc/systemd/system/service-proxy.service")
                        .is_file()
                );
            }
            uninstall(root);
            fs::remove_dir_all(root.join("var")).unwrap_or_default();
            assert_same(&before, root, moment);
        },
    );
}

#[test]
fn an_uninstallation_that_was_broken_off_is_finished_by_another() {
    let bench = Bench::new();
    let before = tree(bench.root().path());
    let prepare = |root: &Path| bench.install(root);
    at_every_moment(&bench, "--uninstall", prepare, |root, moment| {
        uninstall(root);
        // What can be left are our notes, which nobody reads any more.
        fs::remove_dir_all(root.join("var")).unwrap_or_default();
        assert_same(&before, root, moment);
        bench.install(root);
        uninstall(root);
        assert_same(&before, root, moment);
    });
}
