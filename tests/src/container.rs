//! Pods, made as a container runtime makes them: a namespace, and the CNI plugins of a conflist run for it.

use std::{
    env, fs,
    io::Write,
    net::IpAddr,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, bail};
use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{Host, Machine, NodePlan};

/// A pod of the lab.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pod {
    /// Its name.
    pub name: String,
    /// The node that it runs on.
    pub node: String,
    /// The name of its network namespace.
    pub namespace: String,
    /// The id that the runtime gave its sandbox.
    pub container_id: String,
    /// Its address, as the CNI result said.
    pub address: IpAddr,
    /// The result of the last plugin of the conflist, kept as runtimes keep it for DEL.
    pub result: Value,
}

/// A container runtime of one node: its CNI plugins and their configuration.
pub struct Runtime<'a> {
    /// The host that the plugins run on.
    pub host: &'a Host,
    /// Its file system, if that is not this machine's.
    pub machine: Option<&'a Machine>,
    /// `CNI_PATH`.
    pub plugins: PathBuf,
    /// The conflist.
    pub conflist: PathBuf,
}

/// The conflist that is deployed to nodes.
const CONFLIST: &str = include_str!("../../deploy/10-flannel.conflist");

/// Writes a node's conflist: the deployed one, with the node's own directories in place of the machine's.
pub fn write_conflist(node: &NodePlan, path: &Path) -> Result<()> {
    let mut conflist: Value =
        serde_json::from_str(CONFLIST).context("read the deployed conflist")?;
    let flannel = &mut conflist["plugins"][0];
    flannel["subnetFile"] = json!(node.directory.join("subnet.env"));
    flannel["dataDir"] = json!(node.directory.join("cni/flannel"));
    flannel["ipam"] = json!({ "dataDir": node.directory.join("cni/networks") });
    fs::write(path, serde_json::to_string_pretty(&conflist)?)
        .with_context(|| format!("write {}", path.display()))
}

// === impl Runtime ===

impl Runtime<'_> {
    /// Runs ADD of every plugin; the result of the last one.
    pub fn add(&self, container_id: &str, namespace: &Path) -> Result<Value> {
        let mut result = None;
        for mut plugin in self.plugins()? {
            if let Some(previous) = result.take() {
                plugin["prevResult"] = previous;
            }
            let printed = self.run("ADD", &plugin, container_id, namespace)?;
            result = Some(serde_json::from_str(&printed).context("read the result of ADD")?);
        }
        result.context("the conflist names no plugin")
    }

    /// Runs DEL of every plugin, the last one first.
    pub fn delete(&self, container_id: &str, namespace: &Path, result: &Value) -> Result<()> {
        for mut plugin in self.plugins()?.into_iter().rev() {
            plugin["prevResult"] = result.clone();
            self.run("DEL", &plugin, container_id, namespace)?;
        }
        Ok(())
    }

    /// The configuration of each plugin, as libcni derives it from the conflist.
    fn plugins(&self) -> Result<Vec<Value>> {
        let path = match self.machine {
            Some(machine) => machine.path(&self.conflist.to_string_lossy()),
            None => self.conflist.clone(),
        };
        let read = || format!("read {}", path.display());
        let text = fs::read_to_string(&path).with_context(read)?;
        let conflist: Value = serde_json::from_str(&text).with_context(read)?;
        let plugins = conflist["plugins"]
            .as_array()
            .context("the conflist has no plugins")?;
        Ok(plugins
            .iter()
            .cloned()
            .map(|mut plugin| {
                plugin["name"] = conflist["name"].clone();
                plugin["cniVersion"] = conflist["cniVersion"].clone();
                plugin
            })
            .collect())
    }

    fn run(
        &self,
        verb: &str,
        plugin: &Value,
        container_id: &str,
        namespace: &Path,
    ) -> Result<String> {
        let kind = plugin["type"]
            .as_str()
            .context("a plugin of the conflist has no type")?;
        let program = self.plugins.join(kind);
        let mut command = match self.machine {
            Some(machine) => machine.command(program),
            None => Command::new(program),
        };
        command
            .env_clear()
            .envs(env::var_os("PATH").map(|path| ("PATH", path)))
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", container_id)
            .env("CNI_NETNS", namespace)
            .env("CNI_IFNAME", "eth0")
            .env("CNI_PATH", &self.plugins)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = self.host.spawn(&mut command)?;
        child
            .stdin
            .take()
            .context("the plugin has no standard input")?
            .write_all(plugin.to_string().as_bytes())?;
        let output = child.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        if !output.status.success() {
            let noise = String::from_utf8_lossy(&output.stderr);
            bail!(
                "{kind} {verb} for {container_id} on {}: {printed}{noise}",
                self.host.name()
            );
        }
        Ok(printed)
    }
}

/// The first address of a CNI result.
pub fn address(result: &Value) -> Result<IpAddr> {
    let text = result["ips"][0]["address"]
        .as_str()
        .context("the CNI result has no address")?;
    let network: IpNetwork = text.parse().with_context(|| format!("address {text:?}"))?;
    Ok(network.ip())
}
