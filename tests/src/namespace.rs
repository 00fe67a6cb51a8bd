//! A host of the lab: a named network namespace and what runs in it.

use std::{
    fs, io,
    path::Path,
    process::{Child, Command, Output},
};

use anyhow::{Context, Result, ensure};
use kernel::{
    netns::{self, Namespace},
    route::{Address, Change, Handle, IfIndex, LinkSettings},
};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::wait_until;

/// A node, a pod, or the fabric between the nodes.
#[derive(Debug)]
pub struct Host {
    name: String,
    namespace: Namespace,
}

// === impl Host ===

impl Host {
    /// Makes a namespace with loopback up.
    pub fn create(name: &str) -> Result<Self> {
        let host = Self {
            name: name.to_owned(),
            namespace: Namespace::create_named(name)?,
        };
        let up = LinkSettings {
            up: Some(true),
            ..LinkSettings::default()
        };
        host.route()?.apply(&[Change::SetLink(IfIndex(1), up)])?;
        Ok(host)
    }

    /// Opens a namespace that exists.
    pub fn open(name: &str) -> Result<Self> {
        let namespace = Namespace::open(Path::new(netns::NAMED).join(name))?;
        Ok(Self {
            name: name.to_owned(),
            namespace,
        })
    }

    /// Its name, as `ip netns list` shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace
    }

    /// Its links, addresses and routes.
    pub fn route(&self) -> Result<Handle> {
        Ok(Handle::open_in(&self.namespace)?)
    }

    /// Runs `work` inside it, on a thread of its own.
    pub fn within<T: Send>(&self, work: impl FnOnce() -> T + Send) -> Result<T> {
        Ok(self.namespace.run(work)?)
    }

    /// Starts a program inside it.
    pub fn spawn(&self, command: &mut Command) -> Result<Child> {
        let described = format!("{command:?} in {}", self.name);
        self.within(|| command.spawn())?
            .with_context(|| format!("start {described}"))
    }

    /// Runs a program inside it to its end; its output, whatever its exit status.
    pub fn output(&self, command: &mut Command) -> Result<Output> {
        let described = format!("{command:?} in {}", self.name);
        self.within(|| command.output())?
            .with_context(|| format!("run {described}"))
    }

    /// Runs a program inside it to its end; what it printed.
    ///
    /// # Errors
    /// If it can't be started or fails; with what it printed on stderr.
    pub fn text(&self, command: &mut Command) -> Result<String> {
        let output = self.output(command)?;
        ensure!(
            output.status.success(),
            "{command:?} in {}: {}: {}",
            self.name,
            output.status,
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8(output.stdout).with_context(|| format!("{command:?}: output is not text"))
    }

    /// Gives one of its interfaces an address and brings it up.
    pub fn configure(&self, interface: &str, address: ipnetwork::IpNetwork) -> Result<IfIndex> {
        let mut route = self.route()?;
        let name = interface.parse()?;
        let link = route
            .link_by_name(&name)?
            .with_context(|| format!("no {name} in {}", self.name))?;
        let up = LinkSettings {
            up: Some(true),
            ..LinkSettings::default()
        };
        route.apply(&[
            Change::SetLink(link.index, up),
            Change::ReplaceAddress(Address::global(link.index, address)),
        ])?;
        Ok(link.index)
    }

    /// Kills every process inside it and removes it.
    pub fn destroy(&self) -> Result<()> {
        wait_until(&format!("the processes in {} to end", self.name), || {
            let processes = self.processes()?;
            for process in &processes {
                end(*process)?;
            }
            Ok(processes.is_empty())
        })?;
        Ok(Namespace::delete_named(&self.name)?)
    }

    /// The processes whose main thread is inside it; ended ones that were not waited for don't count.
    pub fn processes(&self) -> Result<Vec<Pid>> {
        let mut inside = Vec::new();
        for entry in fs::read_dir("/proc")? {
            let name = entry?.file_name();
            let Some(id) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else {
                continue;
            };
            match Namespace::open(format!("/proc/{id}/ns/net")) {
                Ok(namespace) if namespace.is_same(&self.namespace)? => {
                    inside.push(Pid::from_raw(id))
                }
                // It ended since the directory was read, or it has ended and waits for its parent.
                Ok(_) | Err(_) => {}
            }
        }
        Ok(inside)
    }
}

fn end(process: Pid) -> io::Result<()> {
    match kill(process, Signal::SIGKILL) {
        Ok(()) | Err(nix::errno::Errno::ESRCH) => Ok(()),
        Err(errno) => Err(errno.into()),
    }
}
