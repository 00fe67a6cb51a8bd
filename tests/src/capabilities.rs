//! The rights that the manifests give the daemons, which are all that they have in the lab.

use std::{path::Path, process::Command};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The DaemonSet of flannel-agent.
pub const AGENT: &str = include_str!("../../deploy/manifests/agent/daemonset.yaml");
/// The DaemonSet of service-proxy.
pub const PROXY: &str = include_str!("../../deploy/manifests/proxy/daemonset.yaml");

/// A command that runs a program with the capabilities of a DaemonSet's container, and no others.
pub fn limited(program: &Path, manifest: &str) -> Result<Command> {
    let mut command = Command::new("setpriv");
    command
        .arg("--no-new-privs")
        .arg("--inh-caps=-all")
        .arg(format!("--bounding-set=-all{}", granted(manifest)?))
        .arg(program);
    Ok(command)
}

/// The capabilities in setpriv(1)'s words: `,+net_admin,+net_raw`.
fn granted(manifest: &str) -> Result<String> {
    let manifest: Value = serde_saphyr::from_str(manifest).context("read a manifest")?;
    let context = manifest.pointer("/spec/template/spec/containers/0/securityContext");
    let context = context.context("the manifest has no securityContext")?;
    ensure!(
        context["capabilities"]["drop"][0] == "ALL" && context["privileged"].is_null(),
        "the manifest's container has more capabilities than it names"
    );
    let added = context["capabilities"]["add"].as_array();
    let names = added.into_iter().flatten().filter_map(Value::as_str);
    Ok(names
        .map(|name| format!(",+{}", name.to_lowercase()))
        .collect())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn capabilities_are_those_of_the_manifests() {
        for manifest in [AGENT, PROXY] {
            assert_eq!(granted(manifest).unwrap(), ",+net_admin,+net_raw");
        }
        let privileged = AGENT.replace("drop: [ALL]", "drop: []");
        assert!(granted(&privileged).is_err());
    }
}
