//! Accounting objects: counters with a name, which rules of iptables count in (`-m nfacct`).
//!
//! Formats are those of `linux/netfilter/nfnetlink_acct.h`; `nfacct list` shows the same.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use nix::errno::Errno;

use crate::{
    Error, Result,
    netlink::{self, Request, Socket, array_at, attribute::find},
    nfnetlink::{self, Subsystem},
};

const NEW: u16 = Subsystem::Accounting.kind(0);
const GET: u16 = Subsystem::Accounting.kind(1);
const DELETE: u16 = Subsystem::Accounting.kind(3);

const NFACCT_NAME: u16 = 1;
const NFACCT_PKTS: u16 = 2;

/// Reads and changes the accounting objects of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

netlink::opens!(Handle, Netfilter);

impl Handle {
    /// Makes an object unless there is one of the name, which goes on to count.
    ///
    /// # Errors
    /// If the kernel has no such objects, or refuses.
    pub fn ensure(&mut self, name: &str) -> Result<()> {
        let flags = NLM_F_CREATE | NLM_F_EXCL;
        match self.socket.get(&request(NEW, flags, name)) {
            Err(error) if error.errno() == Some(Errno::EEXIST) => Ok(()),
            made => made
                .map(drop)
                .map_err(|error| Error::new(format!("nfacct add {name}"), error)),
        }
    }

    /// How many packets were counted; `None` if there is no such object.
    ///
    /// # Errors
    /// If the kernel can't be asked.
    pub fn packets(&mut self, name: &str) -> Result<Option<u64>> {
        let replies = match self.socket.get(&request(GET, 0, name)) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            asked => asked.map_err(|error| Error::new(format!("nfacct get {name}"), error))?,
        };
        let count = |body: &[u8]| {
            let (_, attributes) = nfnetlink::split(body)?;
            let packets = find(attributes, NFACCT_PKTS)?;
            array_at(packets, 0).map(u64::from_be_bytes)
        };
        Ok(replies.iter().find_map(|reply| count(&reply.body)))
    }

    /// Removes an object; answers whether there was one.
    ///
    /// # Errors
    /// If a rule counts in it.
    pub fn remove(&mut self, name: &str) -> Result<bool> {
        match self.socket.get(&request(DELETE, 0, name)) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(Error::new(format!("nfacct del {name}"), error)),
        }
    }
}

fn request(kind: u16, flags: u16, name: &str) -> Request {
    let mut body = nfnetlink::start(0);
    body.put_text(NFACCT_NAME, name);
    nfnetlink::request(kind, flags, body)
}
