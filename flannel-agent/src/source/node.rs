//! Who this node is.

use std::{
    fs,
    hash::{BuildHasher, RandomState},
    net::IpAddr,
};

use kernel::Mac;

use crate::{model::Owner, plan};

/// The identity of the installed system (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// What identifies the node in hashes, the same after every restart: the machine, or its name where it
/// has no identity (as in most containers), and its public address, which tells cloned machines apart.
pub fn node_id(public: Option<&IpAddr>) -> String {
    let machine = machine_id().unwrap_or_else(name);
    let address = public.map_or_else(String::new, IpAddr::to_string);
    format!("{machine}/{address}")
}

/// What identifies this run of the program in etcd; `mac` is the Ethernet address of the interface for
/// traffic between nodes.
pub fn owner(mac: Option<Mac>) -> Owner {
    let name = name();
    Owner {
        machine: plan::machine_hash(&machine_id().unwrap_or_default(), &name),
        mac,
        name,
        // Keyed anew in every process.
        run: format!("{:016x}", RandomState::new().hash_one(std::process::id())),
    }
}

fn machine_id() -> Option<String> {
    let text = fs::read_to_string(MACHINE_ID).unwrap_or_default();
    match text.trim() {
        "" | "uninitialized" => None,
        id => Some(id.to_owned()),
    }
}

fn name() -> String {
    nix::unistd::gethostname()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned()
}
