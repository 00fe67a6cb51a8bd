//! The way into the kernel.

use super::{Flow, Protocol, flow::conntrack_name, message};
use crate::{
    Error, Family, Result,
    netlink::{self, Socket},
};

/// Reads and changes the flows of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

netlink::opens!(Handle, Netfilter);

impl Handle {
    /// Every flow of a family and a protocol. Flows that come and go while the table is read may be
    /// missing or twice.
    pub fn flows(&mut self, family: Family, protocol: Protocol) -> Result<Vec<Flow>> {
        self.socket
            .dump_parsed(&message::dump(family, protocol), |body| {
                message::parse(body, protocol).filter(|flow| flow.family == family)
            })
            .map_err(|error| {
                let family = conntrack_name(family);
                Error::new(format!("conntrack -L -f {family} -p {protocol}"), error)
            })
    }

    /// Deletes flows, many in one system call; answers for each whether it was there: a flow with
    /// its original tuple, its zone and its id.
    ///
    /// # Errors
    /// The first refusal, when all have been tried.
    pub fn delete(&mut self, flows: &[Flow]) -> Result<Vec<bool>> {
        let requests: Vec<_> = flows.iter().map(message::delete).collect();
        let outcomes = self
            .socket
            .batch(&requests)
            .map_err(|error| Error::new(format!("delete {} flows", flows.len()), error))?;
        let deleted = |(outcome, flow): (netlink::Result<()>, &Flow)| match outcome {
            Ok(()) => Ok(true),
            Err(error) if error.errno() == Some(nix::errno::Errno::ENOENT) => Ok(false),
            Err(error) => Err(Error::new(format!("conntrack -D {flow}"), error)),
        };
        outcomes.into_iter().zip(flows).map(deleted).collect()
    }

    /// The number of flows of all families and protocols.
    pub fn count(&mut self) -> Result<u32> {
        let failed = |error| Error::new("conntrack -C", error);
        let replies = self.socket.get(&message::count()).map_err(failed)?;
        replies
            .iter()
            .find_map(|reply| message::parse_count(&reply.body))
            .ok_or_else(|| failed(netlink::Error::Malformed("no number in it".into())))
    }
}
