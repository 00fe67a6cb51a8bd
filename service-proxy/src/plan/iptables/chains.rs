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
}

/// The chains of a Service port; none if there is nowhere to lead to.
pub fn chains(settings: &Settings, port: &ServicePort) -> Chains {
    let maker = Maker {
        settings,
        port,
        names: Names::of(&port.name),
    };
    let mut chains = Chains::new();
    let mut add = |name: String, rules: Vec<String>| {
        chains.insert(Table::Nat.chain(name), rules);
    };
    if !port.cluster.is_empty() {
        let rules = maker.balance(TrafficPolicy::Cluster, &port.cluster);
        add(maker.names.cluster(), rules);
    }
    if !port.local.is_empty() {
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
    for backend in port.backends() {
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
            let rule = self.towards(backend).with_some(share);
            rule.jump(name::endpoint(&self.port.name, backend))
        }));
        rules
    }

    /// Connections to the cluster IP that are not from pods are marked, or all are (F25, F26).
    fn masquerade_internal(&self) -> Option<String> {
        let (address, port) = self.port.cluster_ip;
        let rule = Rule::named(format_args!("{} cluster IP", self.port.name))
            .protocol(self.port.name.protocol)
            .destination(address)
            .port(port);
        if self.settings.node.masquerade_all {
            return Some(rule.jump(MARK_MASQ));
        }
        let not_from_pods = self.settings.pods()?;
        Some(rule.with(format_args!("! {not_from_pods}")).jump(MARK_MASQ))
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

    fn towards(&self, backend: &Backend) -> Rule {
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
        let local = (!self.port.local.is_empty()).then(|| Rule::new().jump(self.names.local()));
        pods.into_iter().chain(node).chain(local).collect()
    }

    /// Translates to an endpoint. One that reaches itself is masqueraded, so that the answer comes back this
    /// way (F24); that can only happen where it is, which the classic layout does not make use of.
    fn endpoint(&self, chain: &str, backend: &Backend) -> Vec<String> {
        let name = &self.port.name;
        let reaches_itself = backend.here || self.settings.dispatch == Dispatch::Flat;
        let hairpin =
            reaches_itself.then(|| Rule::named(name).source(backend.address).jump(MARK_MASQ));
        let remember = self.port.affinity.is_some();
        let translate = Rule::named(name)
            .with_some(remember.then(|| format!("-m recent --name {chain} --set")))
            .protocol(name.protocol)
            .jump(format_args!(
                "DNAT --to-destination {}",
                name::socket(backend)
            ));
        hairpin.into_iter().chain([translate]).collect()
    }
}
