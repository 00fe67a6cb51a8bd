//! What a running lab looks like.

use std::io::Write;

use anyhow::Result;

use crate::Lab;

/// Prints a lab's nodes, their subnets and processes, and its pods.
pub fn print(lab: &Lab, out: &mut impl Write) -> Result<()> {
    writeln!(
        out,
        "{:<10} {:<14} {:<20} {:<10}",
        "NODE", "ADDRESS", "SUBNET", "PROCESSES"
    )?;
    for node in lab.plan().nodes() {
        let subnet = std::fs::read_to_string(node.directory.join("subnet.env")).unwrap_or_default();
        let subnet = subnet
            .lines()
            .find_map(|line| line.strip_prefix("FLANNEL_SUBNET="));
        let processes = lab.node(&node.name)?.processes()?.len();
        writeln!(
            out,
            "{:<10} {:<14} {:<20} {processes:<10}",
            node.name,
            node.address.to_string(),
            subnet.unwrap_or("none")
        )?;
    }
    writeln!(
        out,
        "\n{:<10} {:<10} {:<16} NAMESPACE",
        "POD", "NODE", "ADDRESS"
    )?;
    for pod in lab.pods().values() {
        writeln!(
            out,
            "{:<10} {:<10} {:<16} {}",
            pod.name,
            pod.node,
            pod.address.to_string(),
            pod.namespace
        )?;
    }
    writeln!(out, "\nLeases in etcd:")?;
    write!(
        out,
        "{}",
        lab.etcdctl(&["get", "--prefix", "/coreos.com/network/subnets"])?
    )?;
    Ok(())
}
