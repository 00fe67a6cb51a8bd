//! A network namespace that is gone after the test, and nft(8) inside it.

use std::{
    io::Write,
    process::{Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
};

use kernel::{
    netns::Namespace,
    nft::{Handle, ObservedTable, Table},
};

/// A network namespace of its own; deleted when dropped.
pub struct Sandbox {
    name: String,
    pub namespace: Namespace,
    pub handle: Handle,
}

// === impl Sandbox ===

impl Sandbox {
    pub fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "tweed-nft-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let namespace = Namespace::create_named(&name).unwrap();
        let handle = Handle::open_in(&namespace).unwrap();
        Self {
            name,
            namespace,
            handle,
        }
    }

    /// Runs nft(8); answers with what it printed, or with its complaint.
    pub fn nft(&self, arguments: &[&str], input: &str) -> Result<String, String> {
        let run = || {
            let mut child = Command::new("nft")
                .args(arguments)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
            child
                .stdin
                .take()
                .unwrap()
                .write_all(input.as_bytes())
                .unwrap();
            child.wait_with_output().unwrap()
        };
        let output = self.namespace.run(run).unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    pub fn list(&self) -> String {
        self.nft(&["list", "ruleset"], "").unwrap()
    }

    pub fn read(&mut self, table: &Table) -> Option<ObservedTable> {
        self.handle.read(table.family, &table.name).unwrap()
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        Namespace::delete_named(&self.name).unwrap();
    }
}
