//! The command line. Names are kube-proxy's where it has the option.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Parser, ValueEnum};
use ipnetwork::IpNetwork;
use kernel::{Family, IfName};

use crate::{
    daemon::SourceSettings,
    dataplane::{Mode, iptables::IptablesOptions},
    plan::nftables::{NodePortAddresses, NodeRules, Pods},
    serving::ServingOptions,
    tuning::TuningOptions,
};

/// Makes the addresses of Kubernetes Services lead to their endpoints, by nftables or iptables.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "service-proxy", version)]
pub struct Options {
    /// Directory of Kubernetes manifests (*.yaml, *.yml, *.json) with the Services and EndpointSlices, and
    /// with this Node if its zone matters; followed live.
    #[arg(long, value_name = "DIR", conflicts_with_all = ["kubeconfig", "master"])]
    pub manifests: Option<PathBuf>,

    /// The kubeconfig file that leads to the API server; without it and --master, the pod's service account
    /// does.
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The URL of the API server, in the place of the kubeconfig's.
    #[arg(long, value_name = "URL")]
    pub master: Option<String>,

    /// Name of this node in the objects [default: the host name]
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub hostname_override: Option<String>,

    /// The cluster's pod network, one per family; connections to Services from elsewhere are masqueraded.
    /// None: no connection is, but an endpoint's to itself.
    #[arg(long, value_name = "CIDR[,CIDR]")]
    pub cluster_cidr: Option<ClusterCidr>,

    /// How connections from pods of this node are known: they reach all endpoints and are not masqueraded.
    #[arg(long, value_name = "MODE", default_value = "ClusterCIDR")]
    pub detect_local_mode: DetectLocalMode,

    /// With --detect-local-mode=BridgeInterface: the bridge that pods are behind.
    #[arg(
        long,
        value_name = "NAME",
        required_if_eq("detect_local_mode", "BridgeInterface")
    )]
    pub pod_bridge_interface: Option<IfName>,

    /// With --detect-local-mode=InterfaceNamePrefix: how the names of pods' interfaces begin.
    #[arg(
        long,
        value_name = "PREFIX",
        required_if_eq("detect_local_mode", "InterfaceNamePrefix")
    )]
    pub pod_interface_name_prefix: Option<IfName>,

    /// Masquerade every connection to a cluster IP, those of pods too.
    #[arg(long)]
    pub masquerade_all: bool,

    /// Networks of the node's addresses that NodePorts are served on; of a family without any, on all
    /// addresses but loopback.
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', value_parser = node_port_network)]
    pub nodeport_addresses: Vec<IpNetwork>,

    /// What Services are turned into.
    #[arg(long, value_name = "MODE", default_value = "nftables")]
    pub proxy_mode: ProxyMode,

    /// How often everything is compared with the kernel, as in 30s or 1m30s.
    #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = duration)]
    pub sync_period: Duration,

    /// How iptables mode works.
    #[command(flatten)]
    pub iptables: IptablesOptions,

    /// Where others can ask how it goes.
    #[command(flatten)]
    pub serving: ServingOptions,

    /// What of the machine is set.
    #[command(flatten)]
    pub tuning: TuningOptions,

    /// Remove everything that this program has put into the kernel, and kube-proxy's chains of iptables, and
    /// exit.
    #[arg(long)]
    pub cleanup: bool,
}

/// What Services are turned into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ProxyMode {
    /// nftables maps.
    Nftables,
    /// Chains of iptables, by kube-proxy's names.
    Iptables,
}

/// How connections from pods of this node are known (service-proxy F27).
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalMode {
    /// By --cluster-cidr.
    #[value(name = "ClusterCIDR")]
    ClusterCidr,
    /// By --pod-bridge-interface.
    #[value(name = "BridgeInterface")]
    BridgeInterface,
    /// By --pod-interface-name-prefix.
    #[value(name = "InterfaceNamePrefix")]
    InterfaceNamePrefix,
}

/// Networks, one per family at the most.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterCidr(pub Vec<IpNetwork>);

/// Why an option is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Invalid {
    /// No network.
    #[error("{0:?} is no network such as 10.244.0.0/16 or fd00:10::/56")]
    Network(String),
    /// Two networks of a family.
    #[error("two {0} networks; at most one per family can be given")]
    Twice(Family),
    /// No duration, or none where some is needed.
    #[error("{0:?} is no duration longer than none such as 30s, 1m30s or 500ms")]
    NoDuration(String),
    /// No duration.
    #[error("{0:?} is no duration such as 30s, 1m30s, 500ms or 0")]
    Duration(String),
}

// === impl Options ===

impl Options {
    /// The name of this node, as kube-proxy makes it: without blanks, in lower case.
    ///
    /// # Errors
    /// If the kernel does not tell the host name where that is needed.
    pub fn node(&self) -> kernel::Result<String> {
        let name = match &self.hostname_override {
            Some(name) => name.clone(),
            None => kernel::sysctl::get("kernel/hostname")?,
        };
        Ok(name.trim().to_lowercase())
    }
}

impl Options {
    /// What Services are turned into, with what of the rules is the same in every mode, of IPv4 and IPv6.
    pub fn mode(&self, rules: &[NodeRules; 2]) -> Mode {
        let [v4, v6] = rules.clone();
        let liberal = self.tuning.conntrack_tcp_be_liberal;
        let settings = |family, rules| self.iptables.settings(family, rules, liberal);
        match self.proxy_mode {
            ProxyMode::Nftables => Mode::Nftables,
            ProxyMode::Iptables => Mode::Iptables {
                backend: self.iptables.backend(),
                settings: Box::new([settings(Family::V4, v4), settings(Family::V6, v6)]),
            },
        }
    }

    /// Where Services come from.
    pub fn source(&self) -> SourceSettings {
        match &self.manifests {
            Some(directory) => SourceSettings::Manifests(directory.clone()),
            None => SourceSettings::Kube {
                kubeconfig: self.kubeconfig.clone(),
                master: self.master.clone(),
            },
        }
    }

    /// What of the rules is the same for all Services of a family.
    pub fn rules(&self, family: Family) -> NodeRules {
        let of_family = |network: &IpNetwork| Family::of_network(network) == family;
        let pods = match self.detect_local_mode {
            DetectLocalMode::ClusterCidr => {
                let cidrs = self.cluster_cidr.iter().flat_map(|cidrs| &cidrs.0);
                cidrs.copied().find(of_family).map(Pods::Network)
            }
            DetectLocalMode::BridgeInterface => self.pod_bridge_interface.clone().map(Pods::Bridge),
            DetectLocalMode::InterfaceNamePrefix => {
                let prefix = self.pod_interface_name_prefix.clone();
                prefix.map(Pods::InterfacePrefix)
            }
        };
        let networks = self.nodeport_addresses.iter().copied();
        let networks: Vec<_> = networks.filter(of_family).collect();
        NodeRules {
            pods,
            masquerade_all: self.masquerade_all,
            node_ports: if networks.is_empty() {
                NodePortAddresses::All
            } else {
                NodePortAddresses::In(networks)
            },
        }
    }
}

// === impl ClusterCidr ===

impl FromStr for ClusterCidr {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let mut networks: Vec<IpNetwork> = Vec::new();
        for part in text.split(',').map(str::trim).filter(|_| !text.is_empty()) {
            let network = network(part).ok_or_else(|| Invalid::Network(part.to_owned()))?;
            let family = Family::of_network(&network);
            if networks
                .iter()
                .any(|known| Family::of_network(known) == family)
            {
                return Err(Invalid::Twice(family));
            }
            networks.push(network);
        }
        Ok(Self(networks))
    }
}

fn node_port_network(text: &str) -> Result<IpNetwork, Invalid> {
    network(text.trim()).ok_or_else(|| Invalid::Network(text.to_owned()))
}

/// A network, without host bits; a prefix length has to be there.
fn network(text: &str) -> Option<IpNetwork> {
    let network: IpNetwork = text.parse().ok().filter(|_| text.contains('/'))?;
    IpNetwork::new(network.network(), network.prefix()).ok()
}

/// A duration that is not none.
fn duration(text: &str) -> Result<Duration, Invalid> {
    let duration = go_duration(text).ok().filter(|total| !total.is_zero());
    duration.ok_or_else(|| Invalid::NoDuration(text.to_owned()))
}

/// A duration as Go writes it: numbers with a unit, one after the other (`time.ParseDuration`), without sign
/// and down to milliseconds; `0` needs no unit.
pub(crate) fn go_duration(text: &str) -> Result<Duration, Invalid> {
    let invalid = || Invalid::Duration(text.to_owned());
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut total = Duration::ZERO;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(invalid)?;
        let number: f64 = rest[..digits].parse().map_err(|_| invalid())?;
        let unit = rest[digits..]
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .map_or(rest.len(), |at| digits + at);
        let seconds = match &rest[digits..unit] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 1e-3,
            _ => return Err(invalid()),
        };
        let part = Duration::try_from_secs_f64(number * seconds).map_err(|_| invalid())?;
        total = total.checked_add(part).ok_or_else(invalid)?;
        rest = &rest[unit..];
    }
    Some(total).filter(|_| !text.is_empty()).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Options, String> {
        Options::try_parse_from(["service-proxy"].iter().chain(arguments))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn durations_as_go_writes_them() {
        for (text, millis) in [
            ("30s", Some(30_000)),
            ("1m", Some(60_000)),
            ("1h1m1s1ms", Some(3_661_001)),
            ("1.5s", Some(1_500)),
            ("500ms", Some(500)),
            ("0s", None),
            ("", None),
            ("30", None),
            ("s", None),
            ("-1s", None),
            ("1d", None),
            ("1 s", None),
            ("99999999999999999999h", None),
        ] {
            assert_eq!(
                duration(text).ok(),
                millis.map(Duration::from_millis),
                "{text:?}"
            );
        }
    }

    #[test]
    fn cluster_cidrs_one_per_family() {
        let show = |text: &str| match text.parse::<ClusterCidr>() {
            Ok(ClusterCidr(networks)) => networks
                .iter()
                .map(ToString::to_string)
                .collect::<Vec<_>>()
                .join(" "),
            Err(error) => error.to_string(),
        };
        for (text, expected) in [
            ("", ""),
            ("10.244.0.0/16", "10.244.0.0/16"),
            ("10.244.3.7/16, fd00:10::/56", "10.244.0.0/16 fd00:10::/56"),
            (
                "10.0.0.0/8,10.1.0.0/16",
                "two IPv4 networks; at most one per family can be given",
            ),
            (
                "10.0.0.1",
                "\"10.0.0.1\" is no network such as 10.244.0.0/16 or fd00:10::/56",
            ),
            (
                "10.0.0.0/8,",
                "\"\" is no network such as 10.244.0.0/16 or fd00:10::/56",
            ),
        ] {
            assert_eq!(show(text), expected, "{text:?}");
        }
    }

    #[test]
    fn wrong_options_are_named() {
        for (arguments, words) in [
            (
                &["--manifests", "/m", "--proxy-mode", "ipvs"][..],
                &["'ipvs'", "--proxy-mode", "nftables"][..],
            ),
            (
                &["--manifests", "/m", "--cluster-cidr", "x"],
                &["--cluster-cidr", "\"x\" is no network"],
            ),
            (
                &["--manifests", "/m", "--sync-period", "1"],
                &["--sync-period", "is no duration"],
            ),
            (
                &["--manifests", "/m", "--master", "https://10.0.0.1:6443"],
                &["--manifests", "--master"],
            ),
        ] {
            let error = parse(arguments).unwrap_err();
            assert!(words.iter().all(|word| error.contains(word)), "{error}");
        }
    }

    #[test]
    fn the_node_is_named_as_kube_proxy_names_it() {
        let options = parse(&["--cleanup", "--hostname-override", " Node1 "]).unwrap();
        assert_eq!(options.node().unwrap(), "node1");
        let host = kernel::sysctl::get("kernel/hostname")
            .unwrap()
            .to_lowercase();
        assert_eq!(parse(&["--manifests", "/m"]).unwrap().node().unwrap(), host);
    }
}
