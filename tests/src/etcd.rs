//! A real etcd on the fabric, asked through its own command line.

use std::process::Command;

use anyhow::Result;

use crate::{Host, Plan};

/// The command that starts etcd.
pub fn server(plan: &Plan) -> Command {
    let endpoint = plan.etcd_endpoint();
    let mut command = Command::new("etcd");
    command
        .arg("--data-dir")
        .arg(plan.directory().join("etcd"))
        .args(["--name", "lab", "--unsafe-no-fsync"])
        .args(["--listen-client-urls", &endpoint])
        .args(["--advertise-client-urls", &endpoint])
        .args(["--listen-peer-urls", "http://127.0.0.1:2380"])
        .args(["--initial-advertise-peer-urls", "http://127.0.0.1:2380"])
        .args(["--initial-cluster", "lab=http://127.0.0.1:2380"])
        // Debian's etcd 3.4 warns that this platform is not among those tested, and stops without it.
        .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
        .env("ETCDCTL_API", "3");
    command
}

/// What `etcdctl` prints, run on a host of the lab.
pub fn etcdctl(host: &Host, plan: &Plan, arguments: &[&str]) -> Result<String> {
    host.text(
        Command::new("etcdctl")
            .env("ETCDCTL_API", "3")
            .args(["--endpoints", &plan.etcd_endpoint()])
            .args(arguments),
    )
}
