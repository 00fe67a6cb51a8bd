//! The way into the kernel.

use super::{
    Change, ObservedReal, Timeouts, VirtualAddress, VirtualServer,
    message::{
        change, get_reals, get_timeouts, get_virtuals, parse_real, parse_timeouts, parse_virtual,
        set_timeouts,
    },
    overtaken::Remainder,
};
use crate::{
    Error, Result,
    genl::Channel,
    netlink::{self, attribute::Body},
    netns::Namespace,
};

/// The name of the generic netlink family.
const FAMILY: &str = "IPVS";
/// How often the virtual servers are read again, at most, while they change.
const READ_ATTEMPTS: usize = 8;

/// Reads and changes the virtual servers of one network namespace.
#[derive(Debug)]
pub struct Handle {
    channel: Channel,
}

/// There is no way to IPVS.
#[derive(Debug, thiserror::Error)]
pub enum CannotOpen {
    /// The kernel has none, nor a module that it could load.
    #[error("IPVS is not in this kernel, nor can its module ip_vs be loaded: {0}")]
    NotInKernel(Error),
    /// The kernel does not let us ask.
    #[error(transparent)]
    Kernel(Error),
}

// === impl Handle ===

impl Handle {
    /// Works on the calling thread's network namespace. The kernel loads its module if it can.
    ///
    /// # Errors
    /// If the kernel has no IPVS, or a socket can't be had.
    pub fn open() -> Result<Self, CannotOpen> {
        opened(Channel::open(FAMILY))
    }

    /// Works on another network namespace.
    ///
    /// # Errors
    /// As [`Handle::open`].
    pub fn open_in(namespace: &Namespace) -> Result<Self, CannotOpen> {
        opened(Channel::open_in(namespace, FAMILY))
    }

    /// All virtual servers of an address, protocol and port; those that packets' marks lead to are not among
    /// them.
    ///
    /// The kernel goes on with a long list by counting, over the servers of all network namespaces, and does
    /// not tell when that count has become wrong: one that somebody removes hides another one. So the list
    /// is read until it comes twice the same.
    pub fn virtual_servers(&mut self) -> Result<Vec<VirtualServer>> {
        let mut last = self.virtual_servers_once()?;
        for _ in 0..READ_ATTEMPTS {
            let servers = self.virtual_servers_once()?;
            if servers == last {
                return Ok(servers);
            }
            last = servers;
        }
        let changing = netlink::Error::KeepsChanging;
        Err(Error::new("ipvsadm -Ln", changing))
    }

    fn virtual_servers_once(&mut self) -> Result<Vec<VirtualServer>> {
        let request = self.channel.request(get_virtuals());
        let replies = self.channel.socket.dump(&request);
        let replies = replies.map_err(|error| Error::new("ipvsadm -Ln", error))?;
        let servers = replies.iter().filter_map(|it| parse_virtual(&it.body));
        Ok(servers.collect())
    }

    /// The real servers of a virtual one; none if there is no such virtual server.
    pub fn real_servers(&mut self, address: &VirtualAddress) -> Result<Vec<ObservedReal>> {
        let request = self.channel.request(get_reals(address));
        let replies = self.channel.socket.dump(&request);
        let replies =
            replies.map_err(|error| Error::new(format!("ipvsadm -Ln {address}"), error))?;
        let family = address.family();
        let servers = replies.iter().filter_map(|it| parse_real(&it.body, family));
        Ok(servers.collect())
    }

    /// Carries out changes in their order; fails with the first refusal, when all have been tried.
    pub fn apply(&mut self, changes: &[Change]) -> Result<()> {
        let outcomes = self.batch(changes)?;
        for (change, outcome) in changes.iter().zip(outcomes) {
            outcome.map_err(|error| Error::new(change.to_string(), error))?;
        }
        Ok(())
    }

    /// The same where others may have been faster, or a listing did not tell of all: what is there already is set
    /// as it should be, and what is gone already is no failure. Answers with how many changes it was so.
    ///
    /// # Errors
    /// The first other refusal.
    pub fn converge(&mut self, changes: &[Change]) -> Result<usize> {
        let outcomes = self.batch(changes)?;
        let remainder = Remainder::of(changes, outcomes)?;
        self.apply(&remainder.instead)?;
        Ok(remainder.overtaken)
    }

    fn batch(&mut self, changes: &[Change]) -> Result<Vec<netlink::Result<()>>> {
        let requests: Vec<_> = changes
            .iter()
            .map(|it| self.channel.request(change(it)))
            .collect();
        self.channel.socket.batch(&requests).map_err(|error| {
            let attempted = format!("make {} changes of virtual servers", changes.len());
            Error::new(attempted, error)
        })
    }

    /// How many changes were sent so far.
    pub fn sent(&self) -> u64 {
        self.channel.socket.sent()
    }

    /// How long connections are remembered.
    pub fn timeouts(&mut self) -> Result<Timeouts> {
        let attempted = "ipvsadm -Ln --timeout";
        let request = self.channel.request(get_timeouts());
        let replies = self.channel.socket.get(&request);
        let replies = replies.map_err(|error| Error::new(attempted, error))?;
        let timeouts = replies.iter().find_map(|it| parse_timeouts(&it.body));
        let none = || netlink::Error::Malformed("no timeouts".into());
        timeouts.ok_or_else(|| Error::new(attempted, none()))
    }

    /// Sets how long connections are remembered, as far as it is not 0.
    pub fn set_timeouts(&mut self, timeouts: Timeouts) -> Result<()> {
        let Timeouts { tcp, tcp_fin, udp } = timeouts;
        self.send(
            set_timeouts(timeouts),
            format!("ipvsadm --set {tcp} {tcp_fin} {udp}"),
        )
    }

    fn send(&mut self, body: Body, attempted: String) -> Result<()> {
        let request = self.channel.request(body);
        let sent = self.channel.socket.batch(&[request]);
        sent.and_then(|outcomes| outcomes.into_iter().collect())
            .map_err(|error| Error::new(attempted, error))
    }
}

fn opened(channel: Result<Channel>) -> Result<Handle, CannotOpen> {
    match channel {
        Ok(channel) => Ok(Handle { channel }),
        Err(error) if error.is_not_found() => Err(CannotOpen::NotInKernel(error)),
        Err(error) => Err(CannotOpen::Kernel(error)),
    }
}
