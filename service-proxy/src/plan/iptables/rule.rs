//! The text of a rule, in the order in which kube-proxy writes its parts.

use std::{
    fmt::{Display, Write as _},
    net::IpAddr,
};

use ipnetwork::IpNetwork;

use crate::model::Protocol;

/// A rule that is being written.
#[derive(Clone, Debug, Default)]
pub struct Rule(String);

// === impl Rule ===

impl Rule {
    /// A rule for all packets.
    pub fn new() -> Self {
        Self::default()
    }

    /// A rule with a comment.
    pub fn named(comment: impl Display) -> Self {
        Self::new().comment(comment)
    }

    /// Some words with a comment in front, as kube-proxy has it; in a large cluster behind, where tables of
    /// nf_tables need no match for it.
    pub fn labelled(large: bool, comment: impl Display, words: impl FnOnce(Self) -> Self) -> Self {
        if large {
            words(Self::new()).comment(comment)
        } else {
            words(Self::named(comment))
        }
    }

    fn comment(self, comment: impl Display) -> Self {
        let comment = comment.to_string();
        if comment.contains(' ') {
            self.with(format_args!("-m comment --comment \"{comment}\""))
        } else {
            self.with(format_args!("-m comment --comment {comment}"))
        }
    }

    /// With some more words.
    pub fn with(mut self, words: impl Display) -> Self {
        let space = if self.0.is_empty() { "" } else { " " };
        // Writing to a string can't fail.
        if write!(self.0, "{space}{words}").is_err() {
            return self;
        }
        self
    }

    /// With some more words, if there are any.
    pub fn with_some(self, words: Option<impl Display>) -> Self {
        match words {
            Some(words) => self.with(words),
            None => self,
        }
    }

    /// For packets of a protocol.
    pub fn protocol(self, protocol: Protocol) -> Self {
        let name = protocol.to_string().to_lowercase();
        self.with(format_args!("-m {name} -p {name}"))
    }

    /// For packets to an address.
    pub fn destination(self, address: IpAddr) -> Self {
        self.with(format_args!("-d {address}"))
    }

    /// For packets to a network; that of all addresses goes without saying.
    pub fn destination_network(self, network: IpNetwork) -> Self {
        self.with_some((network.prefix() > 0).then(|| format!("-d {network}")))
    }

    /// For packets from an address.
    pub fn source(self, address: IpAddr) -> Self {
        self.with(format_args!("-s {address}"))
    }

    /// For packets to a port.
    pub fn port(self, port: u16) -> Self {
        self.with(format_args!("--dport {port}"))
    }

    /// For packets to an address of the node.
    pub fn destination_local(self) -> Self {
        self.with("-m addrtype --dst-type LOCAL")
    }

    /// For packets from an address of the node.
    pub fn source_local(self) -> Self {
        self.with("-m addrtype --src-type LOCAL")
    }

    /// Leads to a chain or target.
    pub fn jump(self, target: impl Display) -> String {
        self.with(format_args!("-j {target}")).0
    }

    /// Leads nowhere.
    pub fn done(self) -> String {
        self.0
    }
}
