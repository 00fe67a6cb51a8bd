//! Looking at Services and at the kernel without changing anything: `list`, `diff` and `explain`.

mod explain;
mod iptables;
mod ipvs;
mod list;
mod source;
mod text;

use std::{
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    str::FromStr,
};

use clap::{Args, Parser};
use kernel::{Family, nft::Handle};

use crate::{
    dataplane::{Failure, Mode},
    model::{Here, Protocol},
    options::Options,
    plan::{explain::Packet, frontends, nftables::Plan},
    reconcile::compare,
};

use self::source::Objects;

/// The names of the commands, which the daemon's options don't begin with.
pub const COMMANDS: [&str; 3] = ["list", "diff", "explain"];

/// Looks at Services and at the kernel, and changes nothing.
#[derive(Clone, Debug, PartialEq, Parser)]
#[command(name = "service-proxy", version)]
pub enum Inspection {
    /// Prints each port of each Service: type, addresses, endpoints, sessions.
    List {
        /// Where Services come from, and how they are served.
        #[command(flatten)]
        options: Options,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Prints what would have to be changed in the kernel, as nft, iptables-restore, ipset, ipvsadm or ip would take it,
    /// and changes nothing; ends with 1 if that is something.
    Diff {
        /// Where Services come from, and how they are served.
        #[command(flatten)]
        options: Options,
    },
    /// Prints what becomes of the first packet of a connection, and why.
    Explain(Explain),
}

/// Which packet.
#[derive(Clone, Debug, PartialEq, Args)]
pub struct Explain {
    /// The sender's address.
    #[arg(value_name = "SRC")]
    pub source: IpAddr,
    /// To whom, as in 10.96.0.10:80/TCP or [fd00::1]:53/UDP; TCP if no protocol is said.
    #[arg(value_name = "DST:PORT[/PROTO]")]
    pub destination: Destination,
    /// Where Services come from, and how they are served.
    #[command(flatten)]
    pub options: Options,
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// Address, port and protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Destination {
    /// Address and port.
    pub socket: SocketAddr,
    /// Protocol.
    pub protocol: Protocol,
}

/// The text is no destination.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no destination such as 10.96.0.10:80/TCP or [fd00::1]:53/UDP")]
pub struct NoDestination(String);

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The objects can't be read.
    #[error(transparent)]
    Source(#[from] source::Error),
    /// The kernel can't be looked at.
    #[error("{0}; it takes CAP_NET_ADMIN to look at it")]
    Kernel(#[from] kernel::Error),
    /// What a mode keeps can't be looked at.
    #[error("{0}; {advice}", advice = .0.advice())]
    Dataplane(#[from] Failure),
    /// Sender and destination are of different families.
    #[error("{0} can't send to {1}: one is IPv4 and the other IPv6")]
    Families(IpAddr, IpAddr),
    /// What was found can't be printed.
    #[error("print: {0}")]
    Print(#[from] io::Error),
}

/// What came of looking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Finding {
    /// Nothing that would have to be changed.
    Fine,
    /// The kernel differs from what it should be.
    Differs,
}

// === impl Inspection ===

impl Inspection {
    /// Looks, and prints what it finds.
    ///
    /// # Errors
    /// If the objects or the kernel can't be read.
    pub fn run(&self, out: &mut impl Write) -> Result<Finding, Error> {
        match self {
            Self::List { options, json } => {
                let objects = Objects::read(options)?;
                list::print(&objects, *json, out)?;
                Ok(Finding::Fine)
            }
            Self::Diff { options } => {
                let objects = Objects::read(options)?;
                match &objects.mode {
                    Mode::Nftables => diff(&objects, out),
                    Mode::Iptables(mode) => iptables::diff(&objects, *mode, out),
                    Mode::Ipvs(mode) => ipvs::diff(&objects, mode, out),
                }
            }
            Self::Explain(explain) => {
                explain.run(out)?;
                Ok(Finding::Fine)
            }
        }
    }
}

// === impl Explain ===

impl Explain {
    fn run(&self, out: &mut impl Write) -> Result<(), Error> {
        let Destination { socket, protocol } = self.destination;
        if Family::of(&self.source) != Family::of(&socket.ip()) {
            return Err(Error::Families(self.source, socket.ip()));
        }
        let packet = Packet {
            source: self.source,
            destination: socket,
            protocol,
        };
        let objects = Objects::read(&self.options)?;
        let found = explain::explain(&objects, &packet)?;
        if self.json {
            writeln!(out, "{}", serde_json::json!(found))?;
        } else {
            text::print(&packet, &found, &objects, out)?;
        }
        Ok(())
    }
}

// === impl Destination ===

impl FromStr for Destination {
    type Err = NoDestination;

    fn from_str(text: &str) -> Result<Self, NoDestination> {
        let (socket, protocol) = text.split_once('/').unwrap_or((text, "TCP"));
        let socket = socket.parse().ok();
        let protocol = protocol.to_uppercase().parse().ok();
        socket
            .zip(protocol)
            .map(|(socket, protocol)| Self { socket, protocol })
            .ok_or_else(|| NoDestination(text.to_owned()))
    }
}

/// Prints what would have to be changed.
fn diff(objects: &Objects, out: &mut impl Write) -> Result<Finding, Error> {
    let mut kernel = Handle::open()?;
    let mut finding = Finding::Fine;
    for family in Family::ALL {
        let mut plan = plan(objects, family);
        for transaction in compare(&mut kernel, &mut plan, true)? {
            finding = Finding::Differs;
            write!(out, "{transaction}")?;
        }
    }
    Ok(finding)
}

/// What should stand in the kernel.
fn plan(objects: &Objects, family: Family) -> Plan {
    let here = objects.here();
    let wanted = objects.catalogue.all().map(|service| {
        let slices = objects.catalogue.slices_of(&service.name);
        let frontends = frontends(service, slices, family, here);
        (service.name.clone(), frontends)
    });
    let mut plan = Plan::new(family, objects.rules(family).clone());
    plan.settle(&objects.around);
    plan.update(wanted.collect());
    plan
}

impl Objects {
    fn here(&self) -> Here<'_> {
        Here {
            node: &self.node,
            zone: self.catalogue.zone(&self.node),
            addresses: &self.around.addresses,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn reads_destinations() {
        for (text, expected) in [
            ("10.96.0.10:80/TCP", Some(("10.96.0.10:80", Protocol::Tcp))),
            ("10.96.0.10:53/udp", Some(("10.96.0.10:53", Protocol::Udp))),
            ("[fd00::1]:80", Some(("[fd00::1]:80", Protocol::Tcp))),
            ("10.96.0.10", None),
            ("10.96.0.10:80/ICMP", None),
            ("web:80", None),
        ] {
            let expected = expected.map(|(socket, protocol)| Destination {
                socket: socket.parse().unwrap(),
                protocol,
            });
            assert_eq!(text.parse().ok(), expected, "{text:?}");
        }
    }

    #[test]
    fn the_command_line_of_the_daemon_is_none_of_ours() {
        for arguments in [
            &["service-proxy", "list", "--manifests", "/m", "--json"][..],
            &["service-proxy", "diff", "--manifests", "/m"],
            &[
                "service-proxy",
                "explain",
                "10.0.0.1",
                "10.96.0.1:80/TCP",
                "--manifests",
                "/m",
            ],
        ] {
            Inspection::try_parse_from(arguments).unwrap();
            assert!(COMMANDS.contains(&arguments[1]));
        }
        assert!(Inspection::try_parse_from(["service-proxy", "--manifests", "/m"]).is_err());
    }
}
