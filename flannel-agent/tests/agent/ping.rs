//! A ping between pods, to see whether anything gets lost.

use std::{
    fs,
    path::Path,
    process::{Child, Command, Stdio},
};

use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use tempfile::NamedTempFile;

use crate::lab::{Node, TestNamespace};

/// A ping that goes on between a pod of one node and a pod of another.
pub struct Ping {
    child: Child,
    output: NamedTempFile,
    _pods: [TestNamespace; 2],
}

// === impl Ping ===

impl Ping {
    pub fn start(one: &Node, two: &Node) -> Self {
        let pod = |node: &Node| {
            let subnet = announced(node).unwrap();
            let gateway = subnet.strip_suffix("/24").unwrap().to_owned();
            let address = format!("{gateway}0");
            (node.pod(&address, &gateway), address)
        };
        let ((from, _), (to, address)) = (pod(one), pod(two));
        let mut command = Command::new("ping");
        let output = NamedTempFile::new().unwrap();
        command.args(["-i", "0.1", "-O", "-D", &address]);
        command.stdout(Stdio::from(output.reopen().unwrap()));
        let child = from.namespace.run(|| command.spawn().unwrap()).unwrap();
        Self {
            child,
            output,
            _pods: [from, to],
        }
    }

    /// Answers with all that ping has printed, or all but what was as expected.
    pub fn end(&mut self) -> String {
        kill(Pid::from_raw(self.child.id().cast_signed()), Signal::SIGINT).unwrap();
        self.child.wait().unwrap();
        let output = fs::read_to_string(self.output.path()).unwrap();
        let lines = output.lines().filter(|line| !line.contains(" bytes from "));
        lines.collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Ping {
    fn drop(&mut self) {
        if self.child.try_wait().unwrap().is_none() {
            self.child.kill().unwrap();
            self.child.wait().unwrap();
        }
    }
}

/// The subnet that a node announces, as `10.5.34.1/24`.
pub fn announced(node: &Node) -> Option<String> {
    subnet(&node.subnet_file())
}

pub fn subnet(file: &Path) -> Option<String> {
    let text = fs::read_to_string(file).ok()?;
    let subnet = text
        .lines()
        .find_map(|it| it.strip_prefix("FLANNEL_SUBNET="))?;
    Some(subnet.to_owned())
}
