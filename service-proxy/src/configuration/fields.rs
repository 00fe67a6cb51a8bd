//! The fields of `KubeProxyConfiguration`, by their names and with kube-proxy's defaults.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Span;

/// `KubeProxyConfiguration`. What kube-proxy's documentation says of a field is true here too, but where
/// docs/service-proxy.md says otherwise.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Configuration {
    pub bind_address: String,
    pub bind_address_hard_fail: bool,
    pub client_connection: ClientConnection,
    #[serde(rename = "clusterCIDR")]
    pub cluster_cidr: String,
    pub config_sync_period: Span,
    pub conntrack: Conntrack,
    pub detect_local: DetectLocal,
    pub detect_local_mode: String,
    pub enable_profiling: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub feature_gates: BTreeMap<String, bool>,
    pub healthz_bind_address: String,
    pub hostname_override: String,
    pub iptables: IpTables,
    pub ipvs: Ipvs,
    pub logging: Logging,
    pub metrics_bind_address: String,
    pub mode: String,
    pub nftables: NfTables,
    pub node_port_addresses: Vec<String>,
    pub oom_score_adj: Option<i32>,
    pub port_range: String,
    pub show_hidden_metrics_for_version: String,
    pub windows_run_as_service: bool,
    pub winkernel: Winkernel,
}

/// `clientConnection`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct ClientConnection {
    pub accept_content_types: String,
    pub burst: i32,
    pub content_type: String,
    pub kubeconfig: String,
    pub qps: f32,
}

/// `conntrack`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Conntrack {
    pub max_per_core: Option<i32>,
    pub min: Option<i32>,
    pub tcp_be_liberal: bool,
    pub tcp_close_wait_timeout: Option<Span>,
    pub tcp_established_timeout: Option<Span>,
    pub udp_stream_timeout: Span,
    pub udp_timeout: Span,
}

/// `detectLocal`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct DetectLocal {
    pub bridge_interface: String,
    pub interface_name_prefix: String,
}

/// `iptables`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct IpTables {
    pub localhost_node_ports: Option<bool>,
    pub masquerade_all: bool,
    pub masquerade_bit: Option<i32>,
    pub min_sync_period: Span,
    pub sync_period: Span,
}

/// `ipvs`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Ipvs {
    #[serde(rename = "excludeCIDRs")]
    pub exclude_cidrs: Vec<String>,
    pub min_sync_period: Span,
    pub scheduler: String,
    #[serde(rename = "strictARP")]
    pub strict_arp: bool,
    pub sync_period: Span,
    pub tcp_fin_timeout: Span,
    pub tcp_timeout: Span,
    pub udp_timeout: Span,
}

/// `nftables`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct NfTables {
    pub masquerade_all: bool,
    pub masquerade_bit: Option<i32>,
    pub min_sync_period: Span,
    pub sync_period: Span,
}

/// `logging`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Logging {
    /// Nanoseconds or a duration.
    pub flush_frequency: Value,
    pub format: String,
    pub options: Value,
    pub verbosity: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vmodule: Vec<VModule>,
}

/// `logging.vmodule`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct VModule {
    pub file_pattern: String,
    pub verbosity: u32,
}

/// `winkernel`, which is for Windows.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
#[allow(missing_docs)]
pub struct Winkernel {
    #[serde(rename = "enableDSR")]
    pub enable_dsr: bool,
    pub forward_health_check_vip: bool,
    pub network_name: String,
    pub root_hns_endpoint_name: String,
    pub source_vip: String,
}

/// The port of `/healthz`.
pub const HEALTHZ_PORT: u16 = 10256;
/// The port of `/metrics`.
pub const METRICS_PORT: u16 = 10249;

// === impl Configuration ===

impl Configuration {
    /// The configuration of one who says nothing.
    pub fn usual() -> Self {
        let mut usual = Self::default();
        usual.fill_in();
        usual
    }

    /// Puts the defaults where nothing is said (`SetDefaults_KubeProxyConfiguration`). `mode` stays empty.
    pub fn fill_in(&mut self) {
        or_text(&mut self.bind_address, "0.0.0.0");
        let (any, own) = if self.bind_address.contains(':') {
            ("[::]", "[::1]")
        } else {
            ("0.0.0.0", "127.0.0.1")
        };
        or_text(
            &mut self.healthz_bind_address,
            &format!("{any}:{HEALTHZ_PORT}"),
        );
        or_text(
            &mut self.metrics_bind_address,
            &format!("{own}:{METRICS_PORT}"),
        );
        append_port(&mut self.healthz_bind_address, HEALTHZ_PORT);
        append_port(&mut self.metrics_bind_address, METRICS_PORT);
        self.oom_score_adj.get_or_insert(-999);
        self.config_sync_period = self.config_sync_period.or(Span::seconds(15 * 60));
        or_text(&mut self.detect_local_mode, "ClusterCIDR");
        self.client_connection.fill_in();
        self.conntrack.fill_in();
        self.iptables.masquerade_bit.get_or_insert(14);
        self.iptables.localhost_node_ports.get_or_insert(true);
        self.ipvs.sync_period = self.ipvs.sync_period.or(Span::seconds(30));
        // Without a mode, what is not said of nftables is what was said of kube-proxy's default.
        if self.mode.is_empty() {
            self.nftables.take_over(&self.iptables);
        }
        self.iptables.sync_period = self.iptables.sync_period.or(Span::seconds(30));
        self.nftables.sync_period = self.nftables.sync_period.or(Span::seconds(30));
        self.nftables.masquerade_bit.get_or_insert(14);
        or_text(&mut self.logging.format, "text");
    }
}

// === impl ClientConnection ===

impl ClientConnection {
    fn fill_in(&mut self) {
        or_text(
            &mut self.content_type,
            "application/vnd.kubernetes.protobuf",
        );
        if self.qps == 0.0 {
            self.qps = 5.0;
        }
        if self.burst == 0 {
            self.burst = 10;
        }
    }
}

// === impl Conntrack ===

impl Conntrack {
    fn fill_in(&mut self) {
        self.max_per_core.get_or_insert(32 * 1024);
        self.min.get_or_insert(128 * 1024);
        self.tcp_established_timeout
            .get_or_insert(Span::seconds(24 * 3600));
        self.tcp_close_wait_timeout
            .get_or_insert(Span::seconds(3600));
    }
}

// === impl NfTables ===

impl NfTables {
    fn take_over(&mut self, iptables: &IpTables) {
        self.masquerade_all |= iptables.masquerade_all;
        self.masquerade_bit = self.masquerade_bit.or(iptables.masquerade_bit);
        self.sync_period = self.sync_period.or(iptables.sync_period);
        self.min_sync_period = self.min_sync_period.or(iptables.min_sync_period);
    }
}

fn or_text(text: &mut String, usual: &str) {
    if text.is_empty() {
        usual.clone_into(text);
    }
}

/// Adds the port to an address that has none (`AppendPortIfNeeded`).
pub fn append_port(address: &mut String, port: u16) {
    if let Ok(ip) = address.parse::<std::net::IpAddr>() {
        *address = std::net::SocketAddr::new(ip, port).to_string();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADING: &str = "KubeProxyConfiguration";

    /// The value at `logging.vmodule[].verbosity`, as the reference prints it; nothing for what is empty.
    fn default_of(key: &str, usual: &Value) -> String {
        let pointer = format!("/{}", key.replace('.', "/"));
        match usual.pointer(&pointer) {
            None | Some(Value::Null) => String::new(),
            Some(Value::Array(list)) if list.is_empty() => String::new(),
            Some(Value::String(text)) if text.is_empty() => String::new(),
            Some(Value::String(text)) => format!("`{text}`"),
            Some(value) => format!("`{value}`"),
        }
    }

    #[test]
    fn every_key_is_in_the_reference_with_its_default() {
        reference::every_key_is_documented(HEADING, &reference::keys::<Configuration>());
        let usual = serde_json::to_value(Configuration::usual()).unwrap_or_default();
        for row in reference::documented(HEADING) {
            for key in &row.names {
                assert_eq!(row.columns[0], default_of(key, &usual), "{key}");
            }
        }
    }
}
