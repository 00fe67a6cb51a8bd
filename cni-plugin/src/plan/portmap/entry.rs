//! The rules of iptables that lead to the containers' chains, each for up to fifteen ports of a protocol.

use std::collections::BTreeMap;

use kernel::{conntrack::Protocol, iptables};

use super::{Forwarding, words};

/// Ports that one rule can list.
const MULTIPORT: usize = 15;
/// The longest comment.
pub const COMMENT_LEN: usize = 255;

/// A rule that leads to a container's chain.
#[derive(Debug, PartialEq, Eq)]
pub struct Entry {
    /// The protocol.
    pub protocol: Protocol,
    /// Ports of the node, at the most [`MULTIPORT`].
    pub ports: Vec<u16>,
}

// === impl Entry ===

impl Entry {
    /// Reads a rule; `None` if it is not one of these.
    pub fn parse(rule: &str) -> Option<Self> {
        let words = iptables::words(rule);
        let value = |option| words.iter().skip_while(move |word| **word != option).nth(1);
        let name = value("-p")?;
        let ports = value("--dports")?.split(',').map(str::parse);
        Some(Self {
            protocol: Protocol::ALL
                .into_iter()
                .find(|it| it.to_string() == *name)?,
            ports: ports.collect::<Result<_, _>>().ok()?,
        })
    }

    /// The rule that leads to `chain`, without `-A` and what it is added to.
    pub fn text(&self, forwarding: &Forwarding<'_>, chain: &str) -> String {
        let protocol = self.protocol;
        let comment = comment(forwarding.network, forwarding.container_id);
        let comment = words::quote(&comment);
        let ports: Vec<String> = self.ports.iter().map(u16::to_string).collect();
        let ports = ports.join(",");
        let mut text =
            format!("-p {protocol} -m comment --comment {comment} -m multiport --dports {ports}");
        for word in forwarding.conf.conditions(forwarding.family()) {
            text.push(' ');
            text.push_str(&words::quote(word));
        }
        format!("{text} -j {chain}")
    }
}

/// The rules that lead to the container's chain. All ports of a protocol are in them, whatever the family of
/// their hostIP, as the reference has it.
pub fn entries(forwarding: &Forwarding<'_>) -> Vec<Entry> {
    let mut ports: BTreeMap<String, (Protocol, Vec<u16>)> = BTreeMap::new();
    for mapping in &forwarding.conf.mappings {
        let (_, ports) = ports
            .entry(mapping.protocol.to_string())
            .or_insert_with(|| (mapping.protocol, Vec::new()));
        ports.push(mapping.host_port);
    }
    let entries = ports.into_values().flat_map(|(protocol, ports)| {
        let chunks: Vec<Entry> = ports
            .chunks(MULTIPORT)
            .map(|ports| Entry {
                protocol,
                ports: ports.to_vec(),
            })
            .collect();
        chunks
    });
    entries.collect()
}

fn comment(network: &str, container_id: &str) -> String {
    let mut comment = format!("dnat name: \"{network}\" id: \"{container_id}\"");
    if comment.len() > COMMENT_LEN {
        comment.truncate(COMMENT_LEN - 2);
        comment.push_str("...");
    }
    comment
}

/// The container that a comment names.
pub fn owner(comment: &str) -> String {
    let (_, id) = comment.rsplit_once("id: \"").unwrap_or_default();
    id.trim_end_matches('"').to_owned()
}
