//! Who this node is.

use std::{fs, net::IpAddr};

/// The identity of the installed system (machine-id(5)).
const MACHINE_ID: &str = "/etc/machine-id";

/// What identifies the node in hashes, the same after every restart: the machine, or its name where it
/// has no identity (as in most containers), and its public address, which tells cloned machines apart.
pub fn node_id(public: Option<&IpAddr>) -> String {
    let machine = fs::read_to_string(MACHINE_ID).unwrap_or_default();
    let machine = match machine.trim() {
        "" | "uninitialized" => nix::unistd::gethostname()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned(),
        id => id.to_owned(),
    };
    let address = public.map_or_else(String::new, IpAddr::to_string);
    format!("{machine}/{address}")
}
