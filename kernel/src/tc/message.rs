//! The frame of traffic control messages: `struct tcmsg`, then attributes.

use netlink_packet_core::{NLM_F_CREATE, NLM_F_ECHO, NLM_F_EXCL, NLM_F_REPLACE};

use super::{Change, Qdisc, Redirect, Tbf};
use crate::{
    netlink::{
        Request, array_at,
        attribute::{Body, find, text},
    },
    route::IfIndex,
};

const RTM_NEWQDISC: u16 = 36;
const RTM_DELQDISC: u16 = 37;
const RTM_GETQDISC: u16 = 38;
const RTM_NEWTFILTER: u16 = 44;
const RTM_DELTFILTER: u16 = 45;
const RTM_GETTFILTER: u16 = 46;

const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;

/// Length of `struct tcmsg`.
const HEADER_LEN: usize = 20;
const INFO_AT: usize = 16;
const TC_H_ROOT: u32 = 0xffff_ffff;
const TC_H_INGRESS: u32 = 0xffff_fff1;
/// `1:`, the handle that the reference gives the bucket.
const HANDLE_TBF: u32 = 0x0001_0000;
/// `ffff:`, the handle of the ingress qdisc.
const HANDLE_INGRESS: u32 = 0xffff_0000;
/// The parent of filters of what arrives: `clsact` wants its minor number, `ingress` ignores it.
const PARENT_INGRESS: u32 = 0xffff_fff2;
const ETH_P_ALL: u16 = 3;

/// Where a qdisc is attached to an interface.
#[derive(Clone, Copy)]
pub(super) enum Place {
    /// For what leaves.
    Root,
    /// For what arrives.
    Ingress,
}

/// `struct tcmsg` without the family, which is of no meaning here.
#[derive(Default)]
struct Header {
    interface: u32,
    handle: u32,
    parent: u32,
    info: u32,
}

// === impl Place ===

impl Place {
    const fn parent(self) -> u32 {
        match self {
            Self::Root => TC_H_ROOT,
            Self::Ingress => TC_H_INGRESS,
        }
    }
}

// === impl Header ===

impl Header {
    fn body(&self) -> Body {
        let mut bytes = [0; HEADER_LEN];
        for (index, field) in [self.interface, self.handle, self.parent, self.info]
            .into_iter()
            .enumerate()
        {
            let at = 4 + 4 * index;
            bytes[at..at + 4].copy_from_slice(&field.to_ne_bytes());
        }
        Body::new(&bytes)
    }
}

// === impl Change ===

impl Change {
    pub(super) fn to_request(self) -> Request {
        match self {
            Self::ReplaceTbf(interface, tbf) => {
                let header = Header {
                    interface: interface.0,
                    handle: HANDLE_TBF,
                    parent: TC_H_ROOT,
                    info: 0,
                };
                let mut body = header.body();
                body.put_text(TCA_KIND, "tbf");
                body.nest(TCA_OPTIONS, |options| tbf.put_options(options));
                request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_REPLACE, body)
            }
            Self::DeleteRoot(interface) => delete_qdisc(interface, Place::Root),
            Self::AddIngress(interface) => {
                let header = Header {
                    interface: interface.0,
                    handle: HANDLE_INGRESS,
                    parent: TC_H_INGRESS,
                    info: 0,
                };
                let mut body = header.body();
                body.put_text(TCA_KIND, "ingress");
                request(RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)
            }
            Self::DeleteIngress(interface) => delete_qdisc(interface, Place::Ingress),
            Self::AddRedirect(interface, redirect) => {
                let mut body = filter_header(interface, redirect.priority).body();
                body.put_text(TCA_KIND, Redirect::KIND);
                body.nest(TCA_OPTIONS, |options| redirect.put_options(options));
                request(RTM_NEWTFILTER, NLM_F_CREATE | NLM_F_EXCL, body)
            }
            Self::DeleteRedirect(interface, priority) => {
                let mut body = filter_header(interface, priority).body();
                body.put_text(TCA_KIND, Redirect::KIND);
                request(RTM_DELTFILTER, 0, body)
            }
        }
    }
}

/// Asks for the qdisc at a place. The echo flag makes kernels of before 6.x answer the one who asks.
pub(super) fn get_qdisc(interface: IfIndex, place: Place) -> Request {
    let header = Header {
        interface: interface.0,
        parent: place.parent(),
        ..Header::default()
    };
    request(RTM_GETQDISC, NLM_F_ECHO, header.body())
}

/// Asks for the filters of what arrives at an interface.
pub(super) fn get_filters(interface: IfIndex) -> Request {
    let header = Header {
        interface: interface.0,
        parent: PARENT_INGRESS,
        ..Header::default()
    };
    request(RTM_GETTFILTER, 0, header.body())
}

pub(super) fn parse_qdisc(body: &[u8]) -> Option<Qdisc> {
    let attributes = body.get(HEADER_LEN..)?;
    let kind = find(attributes, TCA_KIND).and_then(text)?;
    Some(match kind {
        "tbf" => Qdisc::Tbf(Tbf::parse_options(find(attributes, TCA_OPTIONS)?)?),
        "ingress" => Qdisc::Ingress,
        "clsact" => Qdisc::Clsact,
        other => Qdisc::Other(other.to_owned()),
    })
}

/// `None` for filters that are no redirection of everything.
pub(super) fn parse_redirect(body: &[u8]) -> Option<Redirect> {
    let attributes = body.get(HEADER_LEN..)?;
    if find(attributes, TCA_KIND).and_then(text) != Some(Redirect::KIND) {
        return None;
    }
    let info = u32::from_ne_bytes(array_at(body, INFO_AT)?);
    if info as u16 != ETH_P_ALL.to_be() {
        return None;
    }
    Redirect::parse_options((info >> 16) as u16, find(attributes, TCA_OPTIONS)?)
}

fn delete_qdisc(interface: IfIndex, place: Place) -> Request {
    let header = Header {
        interface: interface.0,
        parent: place.parent(),
        ..Header::default()
    };
    request(RTM_DELQDISC, 0, header.body())
}

fn filter_header(interface: IfIndex, priority: u16) -> Header {
    Header {
        interface: interface.0,
        handle: 0,
        parent: PARENT_INGRESS,
        info: u32::from(priority) << 16 | u32::from(ETH_P_ALL.to_be()),
    }
}

fn request(kind: u16, flags: u16, body: Body) -> Request {
    Request {
        kind,
        flags,
        body: body.into_bytes(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REDIRECT: Redirect = Redirect {
        priority: 1,
        to: IfIndex(7),
    };

    #[test]
    fn redirect_round_trips() {
        let request = Change::AddRedirect(IfIndex(3), REDIRECT).to_request();
        assert_eq!(parse_redirect(&request.body), Some(REDIRECT));
        assert_eq!(parse_qdisc(&request.body), Some(Qdisc::Other("u32".into())));
    }

    proptest::proptest! {
        #[test]
        fn never_panics_on_any_bytes(bytes: Vec<u8>, at: usize, value: u8) {
            let mut body = Change::AddRedirect(IfIndex(3), REDIRECT).to_request().body;
            let at = at % body.len();
            body[at] = value;
            for body in [&bytes, &body] {
                proptest::prop_assert_ne!(parse_qdisc(body), Some(Qdisc::Clsact));
                let other = parse_redirect(body).is_some_and(|it| it.priority != REDIRECT.priority);
                proptest::prop_assert!(!other || at < HEADER_LEN);
            }
        }
    }
}
