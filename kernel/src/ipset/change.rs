//! Changes, as values.

use std::fmt;

use super::{Definition, Member};

/// One change. Members that are there already, or are not there, are no refusal, as with `ipset -exist`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// Makes a set without members; refused where one of the name is.
    Create(String, Definition),
    /// Removes a set; refused where a rule looks it up.
    Destroy(String),
    /// Gives each of two sets the other's members and room, for rules too. They have to be of one kind.
    Swap(String, String),
    /// Takes all members out of a set.
    Flush(String),
    /// Puts a member into a set.
    Add(String, Member),
    /// Takes a member out of a set.
    Delete(String, Member),
}

/// The command of ipset(8) that does the same.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create(name, definition) => write!(f, "ipset create {name} {definition}"),
            Self::Destroy(name) => write!(f, "ipset destroy {name}"),
            Self::Swap(one, other) => write!(f, "ipset swap {one} {other}"),
            Self::Flush(name) => write!(f, "ipset flush {name}"),
            Self::Add(name, member) => write!(f, "ipset add {name} {member} -exist"),
            Self::Delete(name, member) => write!(f, "ipset del {name} {member} -exist"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Family,
        ipset::{Kind, Protocol},
    };

    #[test]
    fn reads_like_a_command() {
        let create = |kind, family| Change::Create("A".into(), Definition::new(kind, family));
        let add = |member| Change::Add("A".into(), member);
        let socket = "10.0.0.1:80".parse().unwrap();
        for (change, text) in [
            (
                create(Kind::IpPort, Family::V6),
                "ipset create A hash:ip,port family inet6 maxelem 65536",
            ),
            (
                create(Kind::Port, Family::V4),
                "ipset create A bitmap:port range 0-65535",
            ),
            (Change::Swap("A".into(), "B".into()), "ipset swap A B"),
            (
                add(Member::IpPort(
                    Protocol::Sctp,
                    "[fd00::1]:53".parse().unwrap(),
                )),
                "ipset add A fd00::1,sctp:53 -exist",
            ),
            (
                add(Member::IpPortNet(
                    Protocol::Tcp,
                    socket,
                    "192.0.2.0/24".parse().unwrap(),
                )),
                "ipset add A 10.0.0.1,tcp:80,192.0.2.0/24 -exist",
            ),
            (
                add(Member::IpPortIp(Protocol::Udp, socket, socket.ip())),
                "ipset add A 10.0.0.1,udp:80,10.0.0.1 -exist",
            ),
            (
                Change::Delete("A".into(), Member::Port(30000)),
                "ipset del A 30000 -exist",
            ),
        ] {
            assert_eq!(change.to_string(), text);
        }
    }
}
