//! Generic netlink: families that are known by name (`linux/genetlink.h`).

use crate::{
    netlink::{
        Error, Protocol, Request, Result, Socket, array_at,
        attribute::{Body, find},
    },
    netns::Namespace,
};

/// `GENL_ID_CTRL`, the family of the families.
const CONTROLLER: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
/// Length of `struct genlmsghdr`, which precedes the attributes.
pub(crate) const HEADER_LEN: usize = 4;

/// A socket for the messages of one family.
#[derive(Debug)]
pub(crate) struct Channel {
    pub(crate) socket: Socket,
    family: u16,
}

// === impl Channel ===

impl Channel {
    /// Opens a socket in the calling thread's network namespace, and asks for the number of a family.
    /// The kernel loads the module of the family if it has one.
    ///
    /// # Errors
    /// ENOENT if the kernel has no such family.
    pub(crate) fn open(name: &str) -> crate::Result<Self> {
        Self::resolve(name).map_err(|error| {
            let attempted = format!("find the generic netlink family {name:?} in the kernel");
            crate::Error::new(attempted, error)
        })
    }

    pub(crate) fn open_in(namespace: &Namespace, name: &str) -> crate::Result<Self> {
        namespace.run(|| Self::open(name))?
    }

    fn resolve(name: &str) -> Result<Self> {
        let mut socket = Socket::open(Protocol::Generic)?;
        let mut body = start(CTRL_CMD_GETFAMILY);
        body.put_text(CTRL_ATTR_FAMILY_NAME, name);
        let replies = socket.get(&Request {
            kind: CONTROLLER,
            flags: 0,
            body: body.into_bytes(),
        })?;
        let family = replies.iter().find_map(|reply| {
            let id = find(reply.body.get(HEADER_LEN..)?, CTRL_ATTR_FAMILY_ID)?;
            array_at(id, 0).map(u16::from_ne_bytes)
        });
        let family = family.ok_or_else(|| Error::Malformed("a family without a number".into()))?;
        Ok(Self { socket, family })
    }

    /// A message of the family, from a body that was begun by [`start`].
    pub(crate) fn request(&self, body: Body) -> Request {
        Request {
            kind: self.family,
            flags: 0,
            body: body.into_bytes(),
        }
    }
}

/// Begins a message: `struct genlmsghdr` of version 1, which every family has today.
pub(crate) fn start(command: u8) -> Body {
    Body::new(&[command, 1, 0, 0])
}
