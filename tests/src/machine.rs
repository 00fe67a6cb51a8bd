//! A file system of its own for a node of the lab: programs that write to `/etc`, `/opt` or `/run`, as on a real
//! machine, are seen by nobody else.

use std::{
    env,
    ffi::OsStr,
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::Host;

/// Lays an empty file system over this machine's, says so, and waits for its end. `/proc`, `/sys`, `/dev` and the
/// named network namespaces are this machine's own; those that are made later appear as well. So are the sources and
/// the programs, to be read alone: they may be in `/tmp`, or on a file system of theirs, which the overlay leaves out.
const SETUP: &str = r#"
set -eu
mount -t tmpfs machine "$1"
cd "$1"
mkdir upper work root
mount -t overlay machine -o lowerdir=/,upperdir=upper,workdir=work root
for shared in proc sys dev run/netns; do
    mkdir -p root/$shared
    mount --rbind /$shared root/$shared
done
mount -t tmpfs machine root/tmp
shift
for directory; do
    mkdir -p "root$directory"
    mount --bind -o ro "$directory" "root$directory"
done
# Not before /proc/PID/root leads there.
exec chroot root sh -c 'echo ready; exec sleep infinity'
"#;

/// A node with a file system of its own, for as long as its [`Host`] is there.
#[derive(Debug)]
pub struct Machine {
    directory: PathBuf,
    holder: Child,
}

// === impl Machine ===

impl Machine {
    /// Makes one for a host; `directory` is made, and nothing is ever written to it.
    ///
    /// # Errors
    /// If the kernel has no overlay file system, or this is not root.
    pub fn create(host: &Host, directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "--propagation", "slave", "sh", "-c", SETUP, "sh"])
            .arg(directory)
            .args(built()?)
            .stdin(Stdio::null())
            .stdout(Stdio::piped());
        let mut holder = host.spawn(&mut command)?;
        let output = holder.stdout.take().context("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        ensure!(
            line == "ready\n",
            "lay a file system over / for {}",
            host.name()
        );
        Ok(Self {
            directory: directory.to_owned(),
            holder,
        })
    }

    /// Where a file of it is found from outside.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{path}", self.holder.id()))
    }

    /// Writes a file of it, and makes the directories above.
    pub fn write(&self, path: &str, text: &str) -> Result<()> {
        let outside = self.path(path);
        let parent = outside.parent().context("no directory")?;
        fs::create_dir_all(parent)
            .and_then(|()| fs::write(&outside, text))
            .with_context(|| format!("write {}", outside.display()))
    }

    /// A command that runs on it.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = self.enter();
        command.args(["--root", "--wd"]).arg("--").arg(program);
        command
    }

    /// Runs commands of the shell on it, one after the other until one fails; what they printed.
    ///
    /// # Errors
    /// If one fails, with all that was printed.
    pub fn sh(&self, script: &str) -> Result<String> {
        let mut command = self.command("sh");
        let output = command.args(["-euc", script]).output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        ensure!(
            output.status.success(),
            "{script:?}: {}: {printed}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(printed)
    }

    /// Every file in which it differs from this machine and every directory that is new, with its kind, mode, and
    /// contents or target, one a line. A file that was removed is a character device here.
    pub fn differences(&self) -> Result<String> {
        const LIST: &str = r#"
            cd "$1/upper"
            find . -mindepth 1 \( -type d -exec test -d /{} \; \) \
                -o \( -type f -printf '%M %p ' -exec sh -c 'sha256sum <"$1"' sh {} \; \) \
                -o -printf '%M %p %l\n' | sort -k 2
        "#;
        let mut command = self.enter();
        let output = command
            .args(["--", "sh", "-euc", LIST, "sh"])
            .arg(&self.directory)
            .output()?;
        ensure!(output.status.success(), "list the differences: {output:?}");
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    fn enter(&self) -> Command {
        // A container runtime starts plugins without PATH.
        let mut command = Command::new("/usr/bin/nsenter");
        command
            .args(["--target", &self.holder.id().to_string()])
            .args(["--mount", "--net"])
            .stdin(Stdio::null());
        command
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // Both fail where its host has gone before it.
        if self.holder.kill().is_ok() {
            drop(self.holder.wait());
        }
    }
}

/// Where the sources are, and what was built of them.
fn built() -> Result<[PathBuf; 2]> {
    let sources = Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).canonicalize()?;
    let program = env::current_exe()?.canonicalize()?;
    let mut above = program.ancestors().skip(1);
    let target = above.find(|it| !it.ends_with("deps"));
    Ok([sources, target.context("no directory")?.to_owned()])
}
