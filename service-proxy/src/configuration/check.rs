//! What is wrong with a configuration: everything at once, each with its key (kube-proxy's `Validate`).

use std::{
    fmt::{self, Display},
    net::{IpAddr, SocketAddr},
};

use ipnetwork::IpNetwork;
use kernel::{Family, IfName};

use super::{
    Configuration, Span,
    node_ports::{ALL, LOCALHOST, PRIMARY},
};

/// Something wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The key.
    pub key: String,
    value: String,
    rule: String,
}

/// Collects what is wrong.
#[derive(Default)]
struct Checker {
    problems: Vec<Problem>,
}

// === impl Problem ===

impl Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { key, value, rule } = self;
        write!(f, "{key}: {value} {rule}")
    }
}

// === impl Checker ===

impl Checker {
    fn require(&mut self, holds: bool, key: &str, value: impl Display, rule: &str) {
        if !holds {
            self.problems.push(Problem {
                key: key.to_owned(),
                value: value.to_string(),
                rule: rule.to_owned(),
            });
        }
    }

    fn bit(&mut self, key: &str, bit: Option<i32>) {
        let bit = bit.unwrap_or_default();
        self.require(
            (0..32).contains(&bit),
            key,
            bit,
            "must be within the range [0, 31]",
        );
    }

    fn periods(&mut self, section: &str, least: Span, period: Span) {
        let (least_key, key) = (
            format!("{section}.minSyncPeriod"),
            format!("{section}.syncPeriod"),
        );
        self.require(period > Span::ZERO, &key, period, "must be greater than 0");
        self.not_negative(&least_key, least);
        let rule = format!("must be greater than or equal to {least_key} ({least})");
        self.require(period >= least, &key, period, &rule);
    }

    fn not_negative(&mut self, key: &str, span: Span) {
        self.require(
            !span.is_negative(),
            key,
            span,
            "must be greater than or equal to 0",
        );
    }

    fn count(&mut self, key: &str, number: Option<i32>) {
        let number = number.unwrap_or_default();
        self.require(
            number >= 0,
            key,
            number,
            "must be greater than or equal to 0",
        );
    }

    /// An address and port; nothing is none.
    fn socket(&mut self, key: &str, text: &str) {
        let port = text.parse::<SocketAddr>().map(|address| address.port());
        let valid = text.is_empty() || port.is_ok_and(|port| port > 0);
        self.require(
            valid,
            key,
            quoted(text),
            "must be IP:port, the port from 1 to 65535",
        );
    }

    fn one_of(&mut self, key: &str, text: &str, names: &[&str]) {
        // Quoted, because nothing is one of them.
        let names_quoted: Vec<_> = names.iter().map(|name| quoted(name)).collect();
        let rule = format!("must be one of {}", names_quoted.join(", "));
        self.require(names.contains(&text), key, quoted(text), &rule);
    }

    fn conntrack(&mut self, configuration: &Configuration) {
        let conntrack = &configuration.conntrack;
        self.count("conntrack.maxPerCore", conntrack.max_per_core);
        self.count("conntrack.min", conntrack.min);
        for (key, span) in [
            (
                "conntrack.tcpEstablishedTimeout",
                conntrack.tcp_established_timeout.unwrap_or_default(),
            ),
            (
                "conntrack.tcpCloseWaitTimeout",
                conntrack.tcp_close_wait_timeout.unwrap_or_default(),
            ),
            ("conntrack.udpTimeout", conntrack.udp_timeout),
            ("conntrack.udpStreamTimeout", conntrack.udp_stream_timeout),
        ] {
            self.not_negative(key, span);
        }
    }

    fn cluster_cidr(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let networks: Vec<_> = text.split(',').map(network).collect();
        let families: Vec<_> = networks.iter().flatten().map(Family::of_network).collect();
        let rule = "must be one network such as 10.244.0.0/16, or one of each family such as \
                    10.244.0.0/16,fd00:10::/56";
        let valid = families.len() == networks.len()
            && (families.len() == 1 || families.len() == 2 && families[0] != families[1]);
        self.require(valid, "clusterCIDR", quoted(text), rule);
    }

    fn node_port_addresses(&mut self, texts: &[String]) {
        let words = [PRIMARY, LOCALHOST, ALL];
        let has_networks = texts.iter().any(|text| !words.contains(&text.as_str()));
        if has_networks && texts.iter().any(|text| text == PRIMARY) {
            let list = texts.join(",");
            let rule = "must not have primary beside networks";
            self.require(false, "nodePortAddresses", list, rule);
            return;
        }
        for (index, text) in texts.iter().enumerate() {
            let key = format!("nodePortAddresses[{index}]");
            let rule = "must be a network such as 10.0.0.0/8, or one of primary, localhost, all";
            let valid = words.contains(&text.as_str()) || network(text).is_some();
            self.require(valid, &key, quoted(text), rule);
        }
    }

    fn detection(&mut self, configuration: &Configuration) {
        let detect = &configuration.detect_local;
        let mode = configuration.detect_local_mode.as_str();
        let modes = [
            "ClusterCIDR",
            "NodeCIDR",
            "BridgeInterface",
            "InterfaceNamePrefix",
        ];
        self.one_of("detectLocalMode", mode, &modes);
        let named = match mode {
            "BridgeInterface" => ("detectLocal.bridgeInterface", &detect.bridge_interface),
            "InterfaceNamePrefix" => (
                "detectLocal.interfaceNamePrefix",
                &detect.interface_name_prefix,
            ),
            _ => return,
        };
        let (key, text) = named;
        let rule = format!(
            "must be the name of an interface, or how it begins, as detectLocalMode is {mode}, without quotes, \\, * and +"
        );
        // Rules of iptables are text, in which these mean something else.
        let valid = text.parse::<IfName>().is_ok() && !text.contains(['"', '\'', '\\', '*', '+']);
        self.require(valid, key, quoted(text), &rule);
    }

    fn ipvs(&mut self, configuration: &Configuration) {
        let ipvs = &configuration.ipvs;
        self.periods("ipvs", ipvs.min_sync_period, ipvs.sync_period);
        self.not_negative("ipvs.tcpTimeout", ipvs.tcp_timeout);
        self.not_negative("ipvs.tcpFinTimeout", ipvs.tcp_fin_timeout);
        self.not_negative("ipvs.udpTimeout", ipvs.udp_timeout);
        for (index, text) in ipvs.exclude_cidrs.iter().enumerate() {
            let key = format!("ipvs.excludeCIDRs[{index}]");
            let rule = "must be a network such as 10.0.0.0/8";
            self.require(network(text).is_some(), &key, quoted(text), rule);
        }
    }
}

/// Everything that is wrong.
pub fn check(configuration: &Configuration) -> Vec<Problem> {
    let mut checker = Checker::default();
    let modes = ["", "nftables", "iptables", "ipvs"];
    checker.one_of("mode", &configuration.mode, &modes);
    checker.bit(
        "iptables.masqueradeBit",
        configuration.iptables.masquerade_bit,
    );
    let iptables = &configuration.iptables;
    checker.periods("iptables", iptables.min_sync_period, iptables.sync_period);
    if configuration.mode == "ipvs" {
        checker.ipvs(configuration);
    }
    checker.bit(
        "nftables.masqueradeBit",
        configuration.nftables.masquerade_bit,
    );
    let nftables = &configuration.nftables;
    checker.periods("nftables", nftables.min_sync_period, nftables.sync_period);
    checker.conntrack(configuration);
    let burst = configuration.client_connection.burst;
    checker.count("clientConnection.burst", Some(burst));
    let score = configuration.oom_score_adj.unwrap_or_default();
    let rule = "must be within the range [-1000, 1000]";
    checker.require((-1000..=1000).contains(&score), "oomScoreAdj", score, rule);
    let period = configuration.config_sync_period;
    checker.require(
        period > Span::ZERO,
        "configSyncPeriod",
        period,
        "must be greater than 0",
    );
    let address = &configuration.bind_address;
    let is_address = address.parse::<IpAddr>().is_ok();
    checker.require(
        is_address,
        "bindAddress",
        quoted(address),
        "must be an IP address",
    );
    checker.socket("healthzBindAddress", &configuration.healthz_bind_address);
    checker.socket("metricsBindAddress", &configuration.metrics_bind_address);
    checker.cluster_cidr(&configuration.cluster_cidr);
    checker.node_port_addresses(&configuration.node_port_addresses);
    checker.detection(configuration);
    checker.one_of(
        "logging.format",
        &configuration.logging.format,
        &["text", "json"],
    );
    checker.problems
}

/// A network, without host bits; a prefix length has to be there.
pub fn network(text: &str) -> Option<IpNetwork> {
    let text = text.trim();
    let network: IpNetwork = text.parse().ok().filter(|_| text.contains('/'))?;
    IpNetwork::new(network.network(), network.prefix()).ok()
}

fn quoted(text: &str) -> String {
    format!("{text:?}")
}

#[cfg(test)]
mod tests {
    use super::*;

    type Spoil = fn(&mut Configuration);

    /// What is done to the usual configuration, and the keys of what is wrong then.
    const CASES: &[(Spoil, &[&str])] = &[
        (|c| c.mode = "userspace".into(), &["mode"]),
        (|c| c.oom_score_adj = Some(-1001), &["oomScoreAdj"]),
        (
            |c| c.iptables.masquerade_bit = Some(32),
            &["iptables.masqueradeBit"],
        ),
        (
            |c| c.nftables.masquerade_bit = Some(-1),
            &["nftables.masqueradeBit"],
        ),
        (
            |c| c.nftables.sync_period = Span::seconds(-1),
            &["nftables.syncPeriod", "nftables.syncPeriod"],
        ),
        (
            |c| c.nftables.min_sync_period = Span::seconds(31),
            &["nftables.syncPeriod"],
        ),
        (
            |c| c.iptables.min_sync_period = Span::seconds(-1),
            &["iptables.minSyncPeriod"],
        ),
        (
            |c| c.conntrack.max_per_core = Some(-1),
            &["conntrack.maxPerCore"],
        ),
        (
            |c| c.conntrack.udp_timeout = Span::seconds(-1),
            &["conntrack.udpTimeout"],
        ),
        (
            |c| c.client_connection.burst = -1,
            &["clientConnection.burst"],
        ),
        (|c| c.bind_address = "here".into(), &["bindAddress"]),
        (
            |c| c.healthz_bind_address = "0.0.0.0:0".into(),
            &["healthzBindAddress"],
        ),
        (
            |c| c.metrics_bind_address = "localhost:1".into(),
            &["metricsBindAddress"],
        ),
        (|c| c.healthz_bind_address = String::new(), &[]),
        (
            |c| c.cluster_cidr = "10.0.0.0/8,10.1.0.0/16".into(),
            &["clusterCIDR"],
        ),
        (
            |c| c.cluster_cidr = "10.0.0.0/8,fd00::/64,10.1.0.0/16".into(),
            &["clusterCIDR"],
        ),
        (|c| c.cluster_cidr = "10.0.0.1".into(), &["clusterCIDR"]),
        (|c| c.cluster_cidr = "10.0.0.0/8,fd00::/64".into(), &[]),
        (
            |c| c.node_port_addresses = vec!["10.0.0.0/8".into(), "x".into()],
            &["nodePortAddresses[1]"],
        ),
        (
            |c| c.node_port_addresses = vec!["primary".into(), "10.0.0.0/8".into()],
            &["nodePortAddresses"],
        ),
        (|c| c.node_port_addresses = vec!["primary".into()], &[]),
        (
            |c| c.detect_local_mode = "Guess".into(),
            &["detectLocalMode"],
        ),
        (
            |c| c.detect_local_mode = "BridgeInterface".into(),
            &["detectLocal.bridgeInterface"],
        ),
        (
            |c| c.detect_local_mode = "InterfaceNamePrefix".into(),
            &["detectLocal.interfaceNamePrefix"],
        ),
        (
            |c| {
                c.detect_local_mode = "BridgeInterface".into();
                c.detect_local.bridge_interface = "cni\\".into();
            },
            &["detectLocal.bridgeInterface"],
        ),
        (
            |c| {
                c.detect_local_mode = "InterfaceNamePrefix".into();
                c.detect_local.interface_name_prefix = "veth+".into();
            },
            &["detectLocal.interfaceNamePrefix"],
        ),
        (
            |c| c.config_sync_period = Span::seconds(-1),
            &["configSyncPeriod"],
        ),
        (|c| c.ipvs.exclude_cidrs = vec!["x".into()], &[]),
        (
            |c| {
                c.mode = "ipvs".into();
                c.ipvs.exclude_cidrs = vec!["x".into()];
            },
            &["ipvs.excludeCIDRs[0]"],
        ),
        (
            |c| {
                c.mode = "x".into();
                c.oom_score_adj = Some(2000);
            },
            &["mode", "oomScoreAdj"],
        ),
    ];

    #[test]
    fn the_usual_configuration_is_right() {
        assert_eq!(check(&Configuration::usual()), []);
    }

    #[test]
    fn what_is_wrong_names_its_key() {
        for (spoil, expected) in CASES {
            let mut configuration = Configuration::usual();
            spoil(&mut configuration);
            let problems = check(&configuration);
            let keys: Vec<_> = problems
                .iter()
                .map(|problem| problem.key.as_str())
                .collect();
            assert_eq!(keys, *expected, "{problems:?}");
        }
    }

    #[test]
    fn a_problem_reads_well() {
        let mut configuration = Configuration::usual();
        configuration.oom_score_adj = Some(2000);
        let problem = check(&configuration).remove(0);
        assert_eq!(
            problem.to_string(),
            "oomScoreAdj: 2000 must be within the range [-1000, 1000]"
        );
        let mut configuration = Configuration::usual();
        configuration.mode = "userspace".into();
        let problem = check(&configuration).remove(0);
        assert_eq!(
            problem.to_string(),
            r#"mode: "userspace" must be one of "", "nftables", "iptables", "ipvs""#
        );
    }
}
