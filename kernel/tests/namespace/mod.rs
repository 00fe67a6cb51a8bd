//! A namespace of a test's own.

// No test binary that shares this file needs all of it.
#![allow(dead_code)]

use std::process::{Command, Stdio};

use kernel::{IfName, netns::Namespace, route};

/// A named namespace that is gone with its owner.
pub struct TestNamespace {
    pub name: String,
    pub namespace: Namespace,
}

impl TestNamespace {
    pub fn new(test: &str) -> Self {
        let name = format!("tweed-kernel-{test}-{}", std::process::id());
        let namespace = Namespace::create_named(&name).unwrap();
        Self { name, namespace }
    }

    pub fn handle(&self) -> route::Handle {
        route::Handle::open_in(&self.namespace).unwrap()
    }

    /// Runs a command inside; answers with what it printed. Panics if it fails.
    pub fn run(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let output = self
            .namespace
            .run(|| {
                let mut child = Command::new(program)
                    .args(arguments)
                    .stdin(Stdio::piped())
                    .stdout(Stdio::piped())
                    .stderr(Stdio::piped())
                    .spawn()
                    .unwrap();
                std::io::Write::write_all(&mut child.stdin.take().unwrap(), input.as_bytes())
                    .unwrap();
                child.wait_with_output().unwrap()
            })
            .unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(
            output.status.success(),
            "{program} {arguments:?}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        text
    }
}

impl Drop for TestNamespace {
    fn drop(&mut self) {
        Namespace::delete_named(&self.name).unwrap();
    }
}

pub fn name(text: &str) -> IfName {
    text.parse().unwrap()
}
