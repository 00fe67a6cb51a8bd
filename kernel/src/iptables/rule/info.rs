//! The structures of extensions, as they are in memory: `linux/netfilter/xt_*.h`, `ipt_REJECT.h`,
//! `ip6t_REJECT.h`, `nf_nat.h`. Numbers are in host byte order unless they are of the packet.

use std::net::{IpAddr, SocketAddr};

use super::{Match, Target, Transport};
use crate::{Family, netlink::array_at};

/// Structures are as long as a multiple of so many bytes (`XT_ALIGN`).
const ALIGNMENT: usize = 8;

const COMMENT_LEN: usize = 256;
const TCP_LEN: usize = 12;
const UDP_LEN: usize = 9;
const SCTP_LEN: usize = 292;
/// Of `struct xt_sctp_info`: the types of chunks that flags are for (none), and which fields count.
const SCTP_FLAG_TYPES: [usize; 4] = [268, 271, 274, 277];
const SCTP_FIELDS: usize = 284;
const SCTP_DESTINATION_PORTS: u32 = 2;
const STATISTIC_LEN: usize = 24;
const RECENT_LEN: usize = 228;
const RECENT_NAME: usize = 10;
const RECENT_NAME_LEN: usize = 200;
const RECENT_MASK: usize = 212;
/// `XT_RECENT_CHECK`, `XT_RECENT_SET`, `XT_RECENT_REAP`.
const RECENT_CHECK: u8 = 1;
const RECENT_SET: u8 = 2;
const RECENT_REAP: u8 = 0x20;
const ADDRTYPE_LEN: usize = 8;
/// `1 << RTN_LOCAL`.
const LOCAL: u16 = 4;
const CONNTRACK_LEN: usize = 164;
const CONNTRACK_FLAGS: usize = 146;
/// `XT_CONNTRACK_STATE`.
const CONNTRACK_STATE: u16 = 1;
const NFACCT_LEN: usize = 40;
const NFACCT_NAME_LEN: usize = 32;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`, `NF_NAT_RANGE_PROTO_RANDOM_FULLY`.
const ADDRESS_AND_PORT: u32 = 3;
const FULLY_RANDOM: u32 = 16;
const NAT_RANGE_LEN: usize = 48;
const NAT_RANGE_V1_LEN: usize = 40;
const NAT_RANGE_IPV4_LEN: usize = 24;
/// `IPT_ICMP_PORT_UNREACHABLE`, `IP6T_ICMP6_PORT_UNREACH`.
const UNREACHABLE_V4: u32 = 3;
const UNREACHABLE_V6: u32 = 4;

/// An extension: its name, revision and structure.
pub(super) type Extension = (&'static str, u32, Vec<u8>);

/// A structure that is being filled.
struct Info(Vec<u8>);

// === impl Match ===

impl Match {
    /// The extension that it is, if it has no instructions of its own.
    pub(super) fn extension(&self) -> Option<Extension> {
        Some(match self {
            Self::Comment(text) => {
                let info = Info::new(COMMENT_LEN).text(0, text, COMMENT_LEN)?;
                ("comment", 0, info.0)
            }
            Self::Ports(transport, ports) => (transport.name(), 0, transport.info(*ports)),
            Self::Statistic(share) => {
                // `mode` 0 is random; the programs leave the share in `count` of the other mode as well.
                let info = Info::new(STATISTIC_LEN).u32(4, *share).u32(12, *share);
                ("statistic", 0, info.0)
            }
            Self::Remember(name) => ("recent", 1, recent(name, 0, RECENT_SET)?),
            Self::Remembered {
                name,
                seconds,
                reap,
            } => {
                let flags = RECENT_CHECK | if *reap { RECENT_REAP } else { 0 };
                ("recent", 1, recent(name, *seconds, flags)?)
            }
            Self::Local { source } => {
                let place = if *source { 0 } else { 2 };
                ("addrtype", 1, Info::new(ADDRTYPE_LEN).u16(place, LOCAL).0)
            }
            Self::State { negated, states } => {
                let inverted = if *negated { CONNTRACK_STATE } else { 0 };
                let info = Info::new(CONNTRACK_LEN)
                    .u16(CONNTRACK_FLAGS, CONNTRACK_STATE)
                    .u16(CONNTRACK_FLAGS + 2, inverted)
                    .u16(CONNTRACK_FLAGS + 4, *states);
                ("conntrack", 3, info.0)
            }
            Self::Account(name) => {
                let info = Info::new(NFACCT_LEN).text(0, name, NFACCT_NAME_LEN)?;
                ("nfacct", 1, info.0)
            }
            Self::Mark { .. } => return None,
        })
    }

    /// What an extension says, as far as that can be said; whether it says nothing else is for the caller to
    /// find out by [`Match::extension`].
    pub(super) fn of_extension(name: &str, info: &[u8]) -> Option<Self> {
        Some(match name {
            "comment" => Self::Comment(text(info, 0)?),
            "statistic" => Self::Statistic(u32_at(info, 4)?),
            "recent" if info.get(8)? & RECENT_SET != 0 => Self::Remember(text(info, RECENT_NAME)?),
            "recent" => Self::Remembered {
                name: text(info, RECENT_NAME)?,
                seconds: u32_at(info, 0)?,
                reap: info.get(8)? & RECENT_REAP != 0,
            },
            "addrtype" => Self::Local {
                source: u16_at(info, 0)? != 0,
            },
            "conntrack" => Self::State {
                negated: u16_at(info, CONNTRACK_FLAGS + 2)? != 0,
                states: u16_at(info, CONNTRACK_FLAGS + 4)?,
            },
            "nfacct" => Self::Account(text(info, 0)?),
            name => {
                let transport = Transport::named(name)?;
                Self::Ports(transport, transport.ports(info)?)
            }
        })
    }
}

// === impl Transport ===

impl Transport {
    fn info(self, ports: Option<(u16, u16)>) -> Vec<u8> {
        let (first, last) = ports.unwrap_or((0, u16::MAX));
        let source_and_destination = |len| {
            let info = Info::new(len).u16(0, 0).u16(2, u16::MAX);
            info.u16(4, first).u16(6, last).0
        };
        match self {
            Self::Tcp => source_and_destination(TCP_LEN),
            Self::Udp => source_and_destination(UDP_LEN),
            Self::Sctp => {
                let none = |info: Info, place: &usize| info.u8(*place, u8::MAX);
                let info = SCTP_FLAG_TYPES.iter().fold(Info::new(SCTP_LEN), none);
                let Some((first, last)) = ports else {
                    return info.0;
                };
                let info = info.u16(0, first).u16(2, last);
                info.u32(SCTP_FIELDS, SCTP_DESTINATION_PORTS).0
            }
        }
    }

    fn ports(self, info: &[u8]) -> Option<Option<(u16, u16)>> {
        let place = match self {
            Self::Tcp | Self::Udp => 4,
            Self::Sctp if u32_at(info, SCTP_FIELDS)? == 0 => return Some(None),
            Self::Sctp => 0,
        };
        let ports = (u16_at(info, place)?, u16_at(info, place + 2)?);
        Some((ports != (0, u16::MAX)).then_some(ports))
    }
}

// === impl Target ===

impl Target {
    /// The extension that it is, if it is no verdict.
    pub(super) fn extension(&self, family: Family) -> Option<Extension> {
        Some(match self {
            Self::Mark { value, mask } => ("MARK", 2, Info::new(8).u32(0, *value).u32(4, *mask).0),
            Self::Masquerade { fully_random } => {
                let flags = if *fully_random { FULLY_RANDOM } else { 0 };
                let info = match family {
                    // One range.
                    Family::V4 => Info::new(NAT_RANGE_IPV4_LEN).u32(0, 1).u32(4, flags),
                    Family::V6 => Info::new(NAT_RANGE_V1_LEN).u32(0, flags),
                };
                ("MASQUERADE", 0, info.0)
            }
            Self::Dnat(to) => {
                let info = Info::new(NAT_RANGE_LEN)
                    .u32(0, ADDRESS_AND_PORT)
                    .address(4, to.ip())
                    .address(20, to.ip());
                let port = to.port().to_be_bytes();
                ("DNAT", 2, info.bytes(36, &port).bytes(38, &port).0)
            }
            Self::Reject => {
                let with = match family {
                    Family::V4 => UNREACHABLE_V4,
                    Family::V6 => UNREACHABLE_V6,
                };
                ("REJECT", 0, Info::new(4).u32(0, with).0)
            }
            Self::Accept | Self::Drop | Self::Return | Self::Jump(_) => return None,
        })
    }

    /// As [`Match::of_extension`].
    pub(super) fn of_extension(family: Family, name: &str, info: &[u8]) -> Option<Self> {
        Some(match (name, family) {
            ("MARK", _) => Self::Mark {
                value: u32_at(info, 0)?,
                mask: u32_at(info, 4)?,
            },
            ("MASQUERADE", _) => {
                let flags = u32_at(info, if family == Family::V4 { 4 } else { 0 })?;
                Self::Masquerade {
                    fully_random: flags == FULLY_RANDOM,
                }
            }
            ("DNAT", _) => {
                let address: IpAddr = match family {
                    Family::V4 => array_at::<4>(info, 4)?.into(),
                    Family::V6 => array_at::<16>(info, 4)?.into(),
                };
                let port = u16::from_be_bytes(array_at(info, 36)?);
                Self::Dnat(SocketAddr::new(address, port))
            }
            ("REJECT", _) => Self::Reject,
            _ => return None,
        })
    }
}

// === impl Info ===

impl Info {
    /// Of zeros.
    fn new(len: usize) -> Self {
        Self(vec![0; len.next_multiple_of(ALIGNMENT)])
    }

    fn bytes(mut self, place: usize, bytes: &[u8]) -> Self {
        if let Some(field) = self.0.get_mut(place..place + bytes.len()) {
            field.copy_from_slice(bytes);
        }
        self
    }

    fn u8(self, place: usize, value: u8) -> Self {
        self.bytes(place, &[value])
    }

    fn u16(self, place: usize, value: u16) -> Self {
        self.bytes(place, &value.to_ne_bytes())
    }

    fn u32(self, place: usize, value: u32) -> Self {
        self.bytes(place, &value.to_ne_bytes())
    }

    fn address(self, place: usize, address: IpAddr) -> Self {
        match address {
            IpAddr::V4(address) => self.bytes(place, &address.octets()),
            IpAddr::V6(address) => self.bytes(place, &address.octets()),
        }
    }

    /// `None` if it is too long, with the NUL at its end.
    fn text(self, place: usize, text: &str, len: usize) -> Option<Self> {
        (text.len() < len).then(|| self.bytes(place, text.as_bytes()))
    }
}

fn recent(name: &str, seconds: u32, flags: u8) -> Option<Vec<u8>> {
    let info = Info::new(RECENT_LEN)
        .u32(0, seconds)
        .u8(8, flags)
        .text(RECENT_NAME, name, RECENT_NAME_LEN)?
        .bytes(RECENT_MASK, &[u8::MAX; 16]);
    Some(info.0)
}

fn u16_at(info: &[u8], place: usize) -> Option<u16> {
    array_at(info, place).map(u16::from_ne_bytes)
}

fn u32_at(info: &[u8], place: usize) -> Option<u32> {
    array_at(info, place).map(u32::from_ne_bytes)
}

/// The text up to a NUL.
fn text(info: &[u8], place: usize) -> Option<String> {
    let rest = info.get(place..)?;
    let text = rest.split(|byte| *byte == 0).next()?;
    String::from_utf8(text.to_vec()).ok()
}
