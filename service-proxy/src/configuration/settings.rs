//! What of a configuration has an effect.

use std::path::PathBuf;

use ipnetwork::IpNetwork;
use kernel::{Family, IfName, ipvs::Timeouts};

use super::{Configuration, NodePorts, Problem, Span, check, check::network, fields::Ipvs};
use crate::{
    dataplane::{Mode, iptables::IptablesMode, ipvs::IpvsMode},
    plan::{
        Conntrack,
        nftables::{Mark, NodeRules, Pods},
    },
    report::http::Bindings,
    tuning::Tuning,
};

/// What of a configuration has an effect.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// What Services are turned into.
    pub mode: Mode,
    /// The kubeconfig file, if one is named.
    pub kubeconfig: Option<PathBuf>,
    /// The name of this node, if it is not the host's.
    pub hostname: Option<String>,
    /// How local traffic is known.
    pub detector: Detector,
    /// Where NodePorts are served.
    pub node_ports: NodePorts,
    /// Every connection to a cluster IP is masqueraded.
    pub masquerade_all: bool,
    /// The bit of a packet's mark that says that it is to be masqueraded.
    pub mark: Mark,
    /// How often everything is compared with the kernel.
    pub sync_period: std::time::Duration,
    /// How long it is at the least from one change of the kernel to the next.
    pub min_sync_period: std::time::Duration,
    /// Where health and metrics are served.
    pub bindings: Bindings,
    /// What of the machine is set.
    pub tuning: Tuning,
    /// Whether Services' externalIPs are served (KEP-5707).
    pub external_ips: bool,
    /// How much is logged, as klog counts.
    pub verbosity: u32,
    /// How it is logged.
    pub log_format: LogFormat,
}

/// How is logged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LogFormat {
    /// Lines for people.
    #[default]
    Text,
    /// A JSON object on each line.
    Json,
}

/// How connections from pods of this node are known (F27).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detector {
    /// By the cluster's pod network.
    ClusterCidr(Vec<IpNetwork>),
    /// By the node's own pod network.
    NodeCidr,
    /// By the bridge that they come in by.
    Bridge(IfName),
    /// By how the name of the interface begins that they come in by.
    InterfacePrefix(IfName),
}

/// A configuration that can't be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", .0.join("; "))]
pub struct Refused(pub Vec<String>);

/// The feature gate that says whether externalIPs are served.
const EXTERNAL_IPS: &str = "AllowServiceExternalIPs";

// === impl Settings ===

impl Settings {
    /// The settings of a configuration, and what a person should know of keys without effect.
    ///
    /// # Errors
    /// Everything that is wrong, with its key.
    pub fn of(configuration: &Configuration) -> Result<(Self, Vec<String>), Refused> {
        let problems = check(configuration);
        let wrong: Vec<_> = problems.iter().map(Problem::to_string).collect();
        let detector = detector(configuration);
        let (true, Some(detector)) = (wrong.is_empty(), detector) else {
            return Err(Refused(wrong));
        };
        let mode = mode(configuration);
        let (iptables, nftables) = (&configuration.iptables, &configuration.nftables);
        let ipvs = &configuration.ipvs;
        let (masquerade_all, bit, periods) = match mode {
            Mode::Nftables => (
                nftables.masquerade_all,
                nftables.masquerade_bit,
                [nftables.sync_period, nftables.min_sync_period],
            ),
            Mode::Iptables(_) => (
                iptables.masquerade_all,
                iptables.masquerade_bit,
                [iptables.sync_period, iptables.min_sync_period],
            ),
            // What is masqueraded, it says where iptables mode does.
            Mode::Ipvs(_) => (
                iptables.masquerade_all,
                iptables.masquerade_bit,
                [ipvs.sync_period, ipvs.min_sync_period],
            ),
        };
        let [sync_period, min_sync_period] = periods.map(|period| period.duration());
        let settings = Self {
            mode,
            kubeconfig: some_text(&configuration.client_connection.kubeconfig).map(PathBuf::from),
            hostname: some_text(&configuration.hostname_override),
            detector,
            node_ports: NodePorts::of(configuration),
            masquerade_all,
            mark: Mark::bit(u32::try_from(bit.unwrap_or(14)).unwrap_or(14)),
            sync_period,
            min_sync_period,
            bindings: Bindings {
                healthz: configuration.healthz_bind_address.parse().ok(),
                metrics: configuration.metrics_bind_address.parse().ok(),
                hard_fail: configuration.bind_address_hard_fail,
            },
            tuning: tuning(configuration),
            external_ips: configuration.feature_gates.get(EXTERNAL_IPS) != Some(&false),
            verbosity: configuration.logging.verbosity,
            log_format: match configuration.logging.format.as_str() {
                "json" => LogFormat::Json,
                _ => LogFormat::Text,
            },
        };
        Ok((settings, without_effect(configuration)))
    }

    /// The name of this node, as kube-proxy makes it: without blanks, in lower case.
    ///
    /// # Errors
    /// If the kernel does not tell the host name where that is needed.
    pub fn node(&self) -> kernel::Result<String> {
        let name = match &self.hostname {
            Some(name) => name.clone(),
            None => kernel::sysctl::get("kernel/hostname")?,
        };
        Ok(name.trim().to_lowercase())
    }

    /// What of the rules of a family is the same for all Services.
    pub fn rules(&self, family: Family) -> NodeRules {
        let of_family = |network: &&IpNetwork| Family::of_network(network) == family;
        NodeRules {
            pods: match &self.detector {
                Detector::ClusterCidr(networks) => {
                    networks.iter().find(of_family).copied().map(Pods::Network)
                }
                Detector::NodeCidr => Some(Pods::OfNode),
                Detector::Bridge(name) => Some(Pods::Bridge(name.clone())),
                Detector::InterfacePrefix(name) => Some(Pods::InterfacePrefix(name.clone())),
            },
            masquerade_all: self.masquerade_all,
            node_ports: self.node_ports.addresses(family),
            mark: self.mark,
            service_networks: Vec::new(),
            keep_invalid: self.tuning.conntrack.tcp_be_liberal,
        }
    }
}

fn mode(configuration: &Configuration) -> Mode {
    match configuration.mode.as_str() {
        "iptables" => Mode::Iptables(IptablesMode {
            localhost_node_ports: configuration.iptables.localhost_node_ports != Some(false),
            tcp_be_liberal: configuration.conntrack.tcp_be_liberal,
            ..IptablesMode::default()
        }),
        "ipvs" => Mode::Ipvs(ipvs(&configuration.ipvs)),
        _ => Mode::Nftables,
    }
}

fn ipvs(ipvs: &Ipvs) -> IpvsMode {
    let usual = IpvsMode::default();
    let seconds = |span: Span| u32::try_from(span.duration().as_secs()).unwrap_or(u32::MAX);
    let networks = ipvs.exclude_cidrs.iter();
    IpvsMode {
        scheduler: some_text(&ipvs.scheduler).unwrap_or(usual.scheduler),
        excluded: networks.filter_map(|text| network(text)).collect(),
        strict_arp: ipvs.strict_arp,
        timeouts: Timeouts {
            tcp: seconds(ipvs.tcp_timeout),
            tcp_fin: seconds(ipvs.tcp_fin_timeout),
            udp: seconds(ipvs.udp_timeout),
        },
        farewell: usual.farewell,
        filter: usual.filter,
    }
}

/// What was asked for and has no effect, where one could expect that it had.
fn without_effect(configuration: &Configuration) -> Vec<String> {
    let gates = configuration.feature_gates.iter();
    let mut notes: Vec<_> = gates
        .filter(|(gate, _)| *gate != EXTERNAL_IPS)
        .map(|(gate, value)| {
            format!(
                "featureGates.{gate}: {value} has no effect: of feature gates, this program knows \
                 {EXTERNAL_IPS} alone"
            )
        })
        .collect();
    for (asked, words) in [
        (
            configuration.enable_profiling,
            "enableProfiling: has no effect: there is no /debug/pprof",
        ),
        (
            !configuration.show_hidden_metrics_for_version.is_empty(),
            "showHiddenMetricsForVersion: has no effect: no metrics are hidden",
        ),
        (
            !configuration.logging.vmodule.is_empty(),
            "logging.vmodule: has no effect: RUST_LOG sets what is logged of a module",
        ),
        (
            configuration.windows_run_as_service,
            "windowsRunAsService: has no effect: this is for Linux",
        ),
    ] {
        notes.extend(asked.then(|| words.to_owned()));
    }
    notes
}

fn detector(configuration: &Configuration) -> Option<Detector> {
    let detect = &configuration.detect_local;
    match configuration.detect_local_mode.as_str() {
        "ClusterCIDR" => {
            let networks = configuration.cluster_cidr.split(',').filter_map(network);
            Some(Detector::ClusterCidr(networks.collect()))
        }
        "NodeCIDR" => Some(Detector::NodeCidr),
        "BridgeInterface" => detect.bridge_interface.parse().ok().map(Detector::Bridge),
        "InterfaceNamePrefix" => {
            let prefix = detect.interface_name_prefix.parse().ok();
            prefix.map(Detector::InterfacePrefix)
        }
        _ => None,
    }
}

fn tuning(configuration: &Configuration) -> Tuning {
    let conntrack = &configuration.conntrack;
    let count =
        |number: Option<i32>| number.map_or(0, |number| u32::try_from(number).unwrap_or_default());
    Tuning {
        conntrack: Conntrack {
            max_per_core: count(conntrack.max_per_core),
            min: count(conntrack.min),
            tcp_established: conntrack
                .tcp_established_timeout
                .unwrap_or_default()
                .duration(),
            tcp_close_wait: conntrack
                .tcp_close_wait_timeout
                .unwrap_or_default()
                .duration(),
            udp: conntrack.udp_timeout.duration(),
            udp_stream: conntrack.udp_stream_timeout.duration(),
            tcp_be_liberal: conntrack.tcp_be_liberal,
        },
        reset_tcp: false,
        oom_score_adj: configuration.oom_score_adj.unwrap_or(-999),
    }
}

fn some_text(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rules(configuration: &Configuration) -> [NodeRules; 2] {
        let (settings, _) = Settings::of(configuration).unwrap();
        Family::ALL.map(|family| settings.rules(family))
    }

    fn pods(configuration: &Configuration) -> [Option<Pods>; 2] {
        rules(configuration).map(|rules| rules.pods)
    }

    #[test]
    fn local_traffic_by_every_detector() {
        let mut configuration = Configuration::usual();
        assert_eq!(pods(&configuration), [None, None]);
        configuration.cluster_cidr = "fd00:10::/56,10.244.3.7/16".into();
        let networks =
            ["10.244.0.0/16", "fd00:10::/56"].map(|text| Pods::Network(text.parse().unwrap()));
        assert_eq!(pods(&configuration), networks.map(Some));
        for (mode, expected) in [
            ("NodeCIDR", Pods::OfNode),
            ("BridgeInterface", Pods::Bridge("cni0".parse().unwrap())),
            (
                "InterfaceNamePrefix",
                Pods::InterfacePrefix("veth".parse().unwrap()),
            ),
        ] {
            configuration.detect_local_mode = mode.into();
            configuration.detect_local.bridge_interface = "cni0".into();
            configuration.detect_local.interface_name_prefix = "veth".into();
            let expected = [Some(expected.clone()), Some(expected)];
            assert_eq!(pods(&configuration), expected, "{mode}");
        }
    }

    #[test]
    fn external_ips_are_served_unless_their_gate_is_shut() {
        for (gates, expected) in [
            (&[][..], true),
            (&[("AllowServiceExternalIPs", true)], true),
            (&[("AllowServiceExternalIPs", false)], false),
        ] {
            let mut configuration = Configuration::usual();
            let gates = gates.iter().map(|(gate, open)| ((*gate).to_owned(), *open));
            configuration.feature_gates.extend(gates);
            let (settings, notes) = Settings::of(&configuration).unwrap();
            assert_eq!(settings.external_ips, expected);
            assert_eq!(notes, [""; 0]);
        }
    }

    #[test]
    fn everything_that_is_wrong_is_told_at_once() {
        let mut configuration = Configuration::usual();
        configuration.mode = "userspace".into();
        configuration.oom_score_adj = Some(5000);
        let Refused(wrong) = Settings::of(&configuration).unwrap_err();
        let keys: Vec<_> = wrong
            .iter()
            .filter_map(|line| line.split(':').next())
            .collect();
        assert_eq!(keys, ["mode", "oomScoreAdj"]);
    }

    #[test]
    fn what_has_no_effect_is_told() {
        let mut configuration = Configuration::usual();
        assert_eq!(Settings::of(&configuration).unwrap().1, [""; 0]);
        configuration.enable_profiling = true;
        configuration.feature_gates.insert("SomeGate".into(), true);
        let (_, notes) = Settings::of(&configuration).unwrap();
        assert!(notes[0].starts_with("featureGates.SomeGate: "), "{notes:?}");
        assert!(notes[1].starts_with("enableProfiling: "), "{notes:?}");
    }

    #[test]
    fn the_mark_is_a_bit() {
        let mut configuration = Configuration::usual();
        let marks =
            |configuration: &Configuration| rules(configuration).map(|rules| rules.mark.value());
        assert_eq!(marks(&configuration), [0x4000; 2]);
        configuration.nftables.masquerade_bit = Some(0);
        assert_eq!(marks(&configuration), [1; 2]);
    }
}
