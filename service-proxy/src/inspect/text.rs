//! An explanation in words.

use std::{
    fmt,
    io::{self, Write},
};

use super::{explain::Found, source::Objects};
use crate::{
    model::TrafficPolicy,
    plan::explain::{Because, By, Fate, Masqueraded, Matched, Origin, Out, Outcome, Packet},
};

/// Prints an explanation.
pub fn print(
    packet: &Packet,
    found: &Found,
    objects: &Objects,
    out: &mut impl Write,
) -> io::Result<()> {
    let Packet {
        source,
        destination,
        protocol,
    } = packet;
    let explanation = &found.explanation;
    writeln!(out, "packet      {source} -> {destination}/{protocol}")?;
    writeln!(out, "seen on     node {}", objects.node)?;
    writeln!(out, "from        {}", explanation.origin)?;
    match &explanation.matched {
        Some(matched) => print_match(matched, out)?,
        None => writeln!(out, "for         no Service")?,
    }
    for (label, wanted) in [("endpoint", true), ("out", false)] {
        let fates = explanation.endpoints.iter();
        for fate in fates.filter(|fate| fate.out.is_none() == wanted) {
            writeln!(out, "{label:<11} {fate}")?;
        }
    }
    if let Some(kept) = found.session {
        writeln!(out, "session     the sender keeps {kept}")?;
    }
    writeln!(out, "result      {}", explanation.outcome)?;
    if let Outcome::Forwarded { masqueraded } = explanation.outcome {
        match masqueraded {
            Some(why) => writeln!(out, "masqueraded yes: {why}")?,
            None => writeln!(
                out,
                "masqueraded no, but for an endpoint that reaches itself"
            )?,
        }
    }
    for object in &found.kernel {
        let presence = if object.present { "" } else { "MISSING: " };
        let command = object.command.trim_start_matches("add ");
        writeln!(out, "kernel      {presence}{command}")?;
    }
    Ok(())
}

fn print_match(matched: &Matched, out: &mut impl Write) -> io::Result<()> {
    writeln!(
        out,
        "for         Service {}, by {}",
        matched.service_port, matched.by
    )?;
    for contender in &matched.contenders {
        writeln!(
            out,
            "not for     Service {contender}, which comes later by name"
        )?;
    }
    let field = match matched.by {
        By::ClusterIp => "internalTrafficPolicy",
        _ => "externalTrafficPolicy",
    };
    let policy = match matched.policy {
        TrafficPolicy::Cluster => "Cluster",
        TrafficPolicy::Local => "Local",
    };
    writeln!(out, "policy      {field} {policy}")
}

// === impl Origin ===

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Pod => "a pod",
            Self::Node => "the node itself",
            Self::Elsewhere => "neither a pod nor this node",
        })
    }
}

// === impl By ===

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClusterIp => "its cluster IP",
            Self::LoadBalancerIp => "its load balancer's IP",
            Self::ExternalIp => "its external IP",
            Self::NodePort => "its NodePort",
        })
    }
}

// === impl Fate ===

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let node = self.node.as_deref().unwrap_or("unknown");
        write!(f, "{} on node {node}", self.address)?;
        match &self.out {
            None => Ok(()),
            Some(out) => write!(f, ": {out}"),
        }
    }
}

// === impl Out ===

impl fmt::Display for Out {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("not ready"),
            Self::Leaving => f.write_str("on its way out, and others are ready"),
            Self::NotHere => f.write_str("not on this node, as the policy wants it"),
            Self::Hints { nodes, zones } => write!(
                f,
                "its hints are for nodes [{}], zones [{}]",
                nodes.join(" "),
                zones.join(" ")
            ),
        }
    }
}

// === impl Outcome ===

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forwarded { .. } => f.write_str("goes to one of the endpoints"),
            Self::Refused { because } => write!(f, "refused: {because}"),
            Self::Dropped { because } => write!(f, "dropped: {because}"),
            Self::Untouched => f.write_str("left alone: no address of a Service"),
        }
    }
}

// === impl Because ===

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoEndpoints => "there is no endpoint anywhere",
            Self::NoEndpointsHere => "the policy wants an endpoint on this node, and there is none",
            Self::NobodysClusterIp => "no Service has this address of a ServiceCIDR",
            Self::NoSuchPort => "the cluster IP is a Service's, but the port is not",
            Self::SourceRanges => "the sender is in none of loadBalancerSourceRanges",
        })
    }
}

// === impl Masqueraded ===

impl fmt::Display for Masqueraded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::All => "everything to cluster IPs is (--masquerade-all)",
            Self::NotFromPod => "it goes to a cluster IP and is not from a pod",
            Self::FromOutside => "answers to what comes from outside have to come back this way",
            Self::FromNode => "the endpoint would answer the node's own address by another way",
        })
    }
}
