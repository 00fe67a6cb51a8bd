//! The chains of one Service port, from its addresses to its endpoints (service-proxy 2.4).

use std::time::Duration;

use super::{
    Settings,
    name::{self, MARK_MASQ, Names},
    rule::Rule,
    ruleset::{Chains, Table},
    service_port::ServicePort,
};
use crate::{
    model::TrafficPolicy,
    plan::{Backend, iptables::Dispatch},
};

/// Makes the chains of a Service port.
struct Maker<'a> {
    settings: &'a Settings,
    port: &'a ServicePort,
    names: Names,
    large: bool,
}

/// The chains of a Service port; none if there is nowhere to lead to. In a large cluster, they are as few as
/// they can be.
pub fn chains(settings: &Settings, port: &ServicePort, large: bool) -> Chains {
    let maker = Maker {
        settings,
        port,
        large,
        names: Names::of(&port.name),
    };
    let mut chains = Chains::new();
    if settings.beside_ipvs && !port.is_by_source() {
        return chains;
    }
    let mut add = |name: String, rules: Vec<String>| {
        chains.insert(Table::Nat.chain(name), rules);
    };
    if !port.cluster.is_empty() {
        let rules = maker.balance(TrafficPolicy::Cluster, &port.cluster);
        add(maker.names.cluster(), rules);
    }
    if !port.local.is_empty() && !settings.beside_ipvs {
        let rules = maker.balance(TrafficPolicy::Local, &port.local);
        add(maker.names.local(), rules);
    }
    if port.is_external() && port.has_endpoints() {
        add(maker.names.external(), maker.external());
        if let Some(sources) = &port.sources {
            let ranges = sources.iter().map(|range| {
                Rule::named(format_args!("{} loadbalancer IP", port.name))
                    .with(format_args!("-s {range}"))
                    .jump(maker.names.external())
            });
            let others = Rule::named(format_args!(
                "other traffic to {} will be dropped by {}",
                port.name,
                name::PROXY_FIREWALL
            ));
            add(
                maker.names.firewall(),
                ranges.chain([others.done()]).collect(),
            );
        }
    }
    for backend in maker.backends().filter(|it| maker.has_chain(it)) {
        let name = name::endpoint(&port.name, &backend);
        let rules = maker.endpoint(&name, &backend);
        add(name, rules);
    }
    chains
}

// === impl Maker ===

impl Maker<'_> {
    /// Spreads connections over endpoints.
    fn balance(&self, policy: TrafficPolicy, backends: &[Backend]) -> Vec<String> {
        let mut rules = Vec::new();
        if policy == self.port.internal {
            rules.extend(self.masquerade_internal());
        }
        if let Some(timeout) = self.port.affinity {
            rules.extend(backends.iter().map(|backend| self.known(backend, timeout)));
        }
        let last = backends.len() - 1;
        rules.extend(backends.iter().enumerate().map(|(index, backend)| {
            let share = (index < last).then(|| {
                let probability = 1.0 / (backends.len() - index) as f64;
                format!("-m statistic --mode random --probability {probability:.10}")
            });
            if !self.has_chain(backend) {
                // A translation to a port wants the protocol, not the match of that name.
                let protocol = self.port.name.protocol.to_string().to_lowercase();
                let rule = Rule::new()
                    .with_some(share)
                    .with(format_args!("-p {protocol}"));
                return rule.jump(format_args!(
                    "DNAT --to-destination {}",
                    name::socket(backend)
                ));
            }
            let rule = self.towards(backend).with_some(share);
            rule.jump(name::endpoint(&self.port.name, backend))
        }));
        rules
    }

    /// The endpoints that chains lead to.
    fn backends(&self) -> impl Iterator<Item = Backend> {
        let all = if self.settings.beside_ipvs {
            self.port.cluster.iter().copied().collect()
        } else {
            self.port.backends()
        };
        all.into_iter()
    }

    /// Whether an endpoint has a chain of its own: in a large cluster only one that needs more than a rule, as
    /// what legacy tables cost grows most with the number of chains.
    fn has_chain(&self, backend: &Backend) -> bool {
        let one_rule = !self.reaches_itself(backend) && self.port.affinity.is_none();
        !(self.large && one_rule)
    }

    /// Whether a connection of an endpoint to itself can come by: only where it is, which the classic layout
    /// does not make use of.
    fn reaches_itself(&self, backend: &Backend) -> bool {
        backend.here || self.settings.dispatch == Dispatch::Flat
    }

    fn translate(&self, rule: Rule, condition: Option<String>, backend: &Backend) -> String {
        let to = name::socket(backend);
        rule.with_some(condition)
            .protocol(self.port.name.protocol)
            .jump(format_args!("DNAT --to-destination {to}"))
    }

    /// Connections to the cluster IP that are not from pods are marked, or all are (F25, F26).
    fn masquerade_internal(&self) -> Option<String> {
        if self.settings.beside_ipvs {
            return None;
        }
        let (address, port) = self.port.cluster_ip;
        let not_from_pods = if self.settings.node.masquerade_all {
            None
        } else {
            Some(format!("! {}", self.settings.pods()?))
        };
        let comment = format_args!("{} cluster IP", self.port.name);
        let rule = Rule::labelled(self.large, comment, |rule| {
            rule.protocol(self.port.name.protocol)
                .destination(address)
                .port(port)
                .with_some(not_from_pods)
        });
        Some(rule.jump(MARK_MASQ))
    }

    /// Leads a client that an endpoint knows back to it (F22).
    fn known(&self, backend: &Backend, timeout: Duration) -> String {
        let chain = name::endpoint(&self.port.name, backend);
        let seconds = timeout.as_secs();
        self.towards(backend)
            .with(format_args!(
                "-m recent --name {chain} --rcheck --seconds {seconds} --reap"
            ))
            .jump(chain)
    }

    /// With a comment, which kube-proxy leaves out in large clusters as well.
    fn towards(&self, backend: &Backend) -> Rule {
        if self.large {
            return Rule::new();
        }
        Rule::named(format_args!(
            "{} -> {}",
            self.port.name,
            name::socket(backend)
        ))
    }

    /// Connections from outside: to any endpoint, masqueraded (F12), or to those on this node (F11).
    fn external(&self) -> Vec<String> {
        let name = &self.port.name;
        let to = |words: &str| Rule::named(format_args!("{words} {name} external destinations"));
        if self.port.external == TrafficPolicy::Cluster {
            return vec![
                to("masquerade traffic for").jump(MARK_MASQ),
                Rule::new().jump(self.names.cluster()),
            ];
        }
        let pods = self.settings.pods().map(|from_pods| {
            to("pod traffic for")
                .with(from_pods)
                .jump(self.names.cluster())
        });
        let node = [
            to("masquerade LOCAL traffic for")
                .source_local()
                .jump(MARK_MASQ),
            to("route LOCAL traffic for")
                .source_local()
                .jump(self.names.cluster()),
        ];
        // Beside IPVS, the virtual server has those.
        let leads = !self.port.local.is_empty() && !self.settings.beside_ipvs;
        let local = leads.then(|| Rule::new().jump(self.names.local()));
        pods.into_iter().chain(node).chain(local).collect()
    }

    /// Translates to an endpoint. One that reaches itself is masqueraded, so that the answer comes back this
    /// way (F24).
    fn endpoint(&self, chain: &str, backend: &Backend) -> Vec<String> {
        let name = &self.port.name;
        let hairpin = self
            .reaches_itself(backend)
            .then(|| Rule::named(name).source(backend.address).jump(MARK_MASQ));
        let remember = self.port.affinity.is_some();
        let remember = remember.then(|| format!("-m recent --name {chain} --set"));
        let translate = self.translate(Rule::named(name), remember, backend);
        hairpin.into_iter().chain([translate]).collect()
    }
}
