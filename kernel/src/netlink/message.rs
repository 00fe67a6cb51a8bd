//! Requests and replies as bytes, framed by `struct nlmsghdr` (netlink(7)).

use netlink_packet_core::{NLM_F_ACK_TLVS, NLM_F_CAPPED, NLM_F_REQUEST};
use nix::errno::Errno;

use super::{Error, Result};

pub(super) const HEADER_LEN: usize = 16;

pub(super) const NLMSG_ERROR: u16 = 2;
pub(super) const NLMSG_DONE: u16 = 3;

const NLMSGERR_ATTR_MSG: u16 = 1;

/// One request: a message type, flags beyond `NLM_F_REQUEST`, and what follows the header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`; the transport adds `NLM_F_REQUEST`, `NLM_F_ACK` and `NLM_F_DUMP` itself.
    pub flags: u16,
    /// The protocol's own header and attributes.
    pub body: Vec<u8>,
}

/// One message from the kernel, neither an acknowledgement nor an end-of-dump mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// `nlmsg_type`.
    pub kind: u16,
    /// `nlmsg_flags`.
    pub flags: u16,
    /// The protocol's own header and attributes.
    pub body: Vec<u8>,
}

/// A received message with its sequence number, borrowed from the receive buffer.
pub(super) struct Received<'a> {
    pub kind: u16,
    pub flags: u16,
    pub sequence: u32,
    /// `nlmsg_pid`: the port of the socket that asked, or made the change that is announced.
    pub port: u32,
    pub body: &'a [u8],
}

// === impl Request ===

impl Request {
    /// The length of the message on the wire, padding included.
    pub(super) fn wire_len(&self) -> usize {
        align(HEADER_LEN + self.body.len())
    }

    /// Appends the message to `buffer`.
    pub(super) fn write(&self, extra_flags: u16, sequence: u32, buffer: &mut Vec<u8>) {
        let len = HEADER_LEN + self.body.len();
        buffer.extend_from_slice(&(len as u32).to_ne_bytes());
        buffer.extend_from_slice(&self.kind.to_ne_bytes());
        buffer.extend_from_slice(&(self.flags | NLM_F_REQUEST | extra_flags).to_ne_bytes());
        buffer.extend_from_slice(&sequence.to_ne_bytes());
        buffer.extend_from_slice(&0u32.to_ne_bytes());
        buffer.extend_from_slice(&self.body);
        buffer.resize(buffer.len() + align(len) - len, 0);
    }
}

// === impl Received ===

impl<'a> Received<'a> {
    /// Takes the first message off `bytes`; `None` at the end.
    pub(super) fn take_first(bytes: &mut &'a [u8]) -> Result<Option<Self>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let malformed = || Error::Malformed(format!("message of {} bytes is cut off", bytes.len()));
        let len = u32::from_ne_bytes(array_at(bytes, 0).ok_or_else(malformed)?) as usize;
        let message = bytes
            .get(..len)
            .filter(|m| m.len() >= HEADER_LEN)
            .ok_or_else(malformed)?;
        let received = Self {
            kind: u16::from_ne_bytes(array_at(message, 4).ok_or_else(malformed)?),
            flags: u16::from_ne_bytes(array_at(message, 6).ok_or_else(malformed)?),
            sequence: u32::from_ne_bytes(array_at(message, 8).ok_or_else(malformed)?),
            port: u32::from_ne_bytes(array_at(message, 12).ok_or_else(malformed)?),
            body: &message[HEADER_LEN..],
        };
        *bytes = bytes.get(align(len)..).unwrap_or_default();
        Ok(Some(received))
    }

    /// What an `NLMSG_ERROR` or `NLMSG_DONE` says: success, or the kernel's refusal with its text.
    pub(super) fn verdict(&self) -> Result<()> {
        let code = match array_at(self.body, 0) {
            Some(bytes) => i32::from_ne_bytes(bytes),
            None => 0,
        };
        if code >= 0 {
            return Ok(());
        }
        // The largest number that the system calls know (`MAX_ERRNO`).
        if code < -4095 {
            return Err(Error::Subsystem(-code));
        }
        Err(Error::Refused {
            errno: Errno::from_raw(-code),
            message: self.message(),
        })
    }

    /// The text of the extended acknowledgement (`NLMSGERR_ATTR_MSG`).
    fn message(&self) -> Option<String> {
        if self.flags & NLM_F_ACK_TLVS == 0 {
            return None;
        }
        let attributes_at = match self.kind {
            NLMSG_DONE => 4,
            _ if self.flags & NLM_F_CAPPED != 0 => 4 + HEADER_LEN,
            _ => 4 + align(u32::from_ne_bytes(array_at(self.body, 4)?) as usize),
        };
        let mut rest = self.body.get(attributes_at..)?;
        while let (Some(len), Some(kind)) = (array_at(rest, 0), array_at(rest, 2)) {
            let len = usize::from(u16::from_ne_bytes(len));
            let value = rest.get(4..len)?;
            if u16::from_ne_bytes(kind) == NLMSGERR_ATTR_MSG {
                let text = value.strip_suffix(&[0]).unwrap_or(value);
                return Some(String::from_utf8_lossy(text).into_owned());
            }
            rest = rest.get(align(len)..)?;
        }
        None
    }
}

impl From<Received<'_>> for Reply {
    fn from(received: Received<'_>) -> Self {
        Self {
            kind: received.kind,
            flags: received.flags,
            body: received.body.to_vec(),
        }
    }
}

/// Rounds up to the alignment of messages and attributes: four bytes.
pub(crate) const fn align(len: usize) -> usize {
    (len + 3) & !3
}

/// The `N` bytes at `offset`, if there are as many.
pub(crate) fn array_at<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..offset + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error_message(flags: u16, attributes: &[u8], code: i32) -> Vec<u8> {
        let mut body = code.to_ne_bytes().to_vec();
        body.extend([16u32, 0, 0, 0].iter().flat_map(|word| word.to_ne_bytes()));
        body.extend_from_slice(attributes);
        let mut bytes = Vec::new();
        let request = Request {
            kind: NLMSG_ERROR,
            flags: 0,
            body,
        };
        request.write(flags, 7, &mut bytes);
        bytes
    }

    #[test]
    fn extended_acknowledgement_is_read_capped_or_not() {
        let attribute = b"\x09\x00\x01\x00oops\x00\x00\x00\x00";
        for flags in [NLM_F_ACK_TLVS, NLM_F_ACK_TLVS | NLM_F_CAPPED] {
            let bytes = error_message(flags, attribute, -17);
            let received = Received::take_first(&mut bytes.as_slice())
                .unwrap()
                .unwrap();
            let error = received.verdict().unwrap_err();
            assert_eq!(error.to_string(), "File exists (EEXIST): oops");
        }
    }

    #[test]
    fn zero_is_success_and_rubbish_is_an_error() {
        let bytes = error_message(0, &[], 0);
        let received = Received::take_first(&mut bytes.as_slice())
            .unwrap()
            .unwrap();
        assert!(received.verdict().is_ok());
        assert!(Received::take_first(&mut &bytes[..20]).is_err());
        assert!(Received::take_first(&mut &[4u8, 0, 0, 0, 0][..]).is_err());
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>) {
            let mut rest = bytes.as_slice();
            while let Ok(Some(received)) = Received::take_first(&mut rest) {
                drop(received.verdict());
            }
        }
    }
}
