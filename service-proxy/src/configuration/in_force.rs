//! The configuration in force, in the form of `/configz`: with the names and in the order of kube-proxy's internal
//! type (`KubeProxyConfiguration` of Kubernetes 1.36), which are not those of its file.

use serde_json::{Value, json};

use super::{Configuration, Span};

/// What kube-proxy has for `logging.flushFrequency` where nothing is said.
const FLUSH_FREQUENCY: &str = "5s";

// === impl Configuration ===

impl Configuration {
    /// The value of the key `kubeproxy.config.k8s.io`. What the file has for each mode is there for the mode that
    /// is in force.
    pub fn in_force(&self) -> Value {
        let (masquerade_all, sync_period, min_sync_period) = self.of_mode();
        let winkernel = &self.winkernel;
        json!({
            "Linux": {
                "Conntrack": self.conntrack_in_force(),
                "MasqueradeAll": masquerade_all,
                "OOMScoreAdj": self.oom_score_adj,
            },
            "Windows": {"RunAsService": self.windows_run_as_service},
            "FeatureGates": self.feature_gates,
            "ClientConnection": {
                "Kubeconfig": self.client_connection.kubeconfig,
                "AcceptContentTypes": self.client_connection.accept_content_types,
                "ContentType": self.client_connection.content_type,
                "QPS": self.client_connection.qps,
                "Burst": self.client_connection.burst,
            },
            "Logging": self.logging_in_force(),
            "HostnameOverride": self.hostname_override,
            "BindAddress": self.bind_address,
            "HealthzBindAddress": self.healthz_bind_address,
            "MetricsBindAddress": self.metrics_bind_address,
            "BindAddressHardFail": self.bind_address_hard_fail,
            "EnableProfiling": self.enable_profiling,
            "ShowHiddenMetricsForVersion": self.show_hidden_metrics_for_version,
            "Mode": self.mode,
            "IPTables": {
                "MasqueradeBit": self.iptables.masquerade_bit,
                "LocalhostNodePorts": self.iptables.localhost_node_ports,
            },
            "IPVS": self.ipvs_in_force(),
            "Winkernel": {
                "NetworkName": winkernel.network_name,
                "SourceVip": winkernel.source_vip,
                "EnableDSR": winkernel.enable_dsr,
                "RootHnsEndpointName": winkernel.root_hns_endpoint_name,
                "ForwardHealthCheckVip": winkernel.forward_health_check_vip,
            },
            "NFTables": {"MasqueradeBit": self.nftables.masquerade_bit},
            "DetectLocalMode": self.detect_local_mode,
            "DetectLocal": {
                "BridgeInterface": self.detect_local.bridge_interface,
                "ClusterCIDRs": list(self.cluster_cidr.split(',')),
                "InterfaceNamePrefix": self.detect_local.interface_name_prefix,
            },
            "NodePortAddresses": list(self.node_port_addresses.iter().map(String::as_str)),
            "SyncPeriod": sync_period,
            "MinSyncPeriod": min_sync_period,
            "ConfigSyncPeriod": self.config_sync_period,
        })
    }

    /// `masqueradeAll`, `syncPeriod` and `minSyncPeriod` of the mode.
    fn of_mode(&self) -> (bool, Span, Span) {
        let (iptables, nftables) = (&self.iptables, &self.nftables);
        match self.mode.as_str() {
            "iptables" => (
                iptables.masquerade_all,
                iptables.sync_period,
                iptables.min_sync_period,
            ),
            // What it has no key for is that of iptables.
            "ipvs" => (
                iptables.masquerade_all,
                self.ipvs.sync_period,
                self.ipvs.min_sync_period,
            ),
            _ => (
                nftables.masquerade_all,
                nftables.sync_period,
                nftables.min_sync_period,
            ),
        }
    }

    fn conntrack_in_force(&self) -> Value {
        let conntrack = &self.conntrack;
        json!({
            "MaxPerCore": conntrack.max_per_core,
            "Min": conntrack.min,
            "TCPEstablishedTimeout": conntrack.tcp_established_timeout,
            "TCPCloseWaitTimeout": conntrack.tcp_close_wait_timeout,
            "TCPBeLiberal": conntrack.tcp_be_liberal,
            "UDPTimeout": conntrack.udp_timeout,
            "UDPStreamTimeout": conntrack.udp_stream_timeout,
        })
    }

    fn ipvs_in_force(&self) -> Value {
        let ipvs = &self.ipvs;
        json!({
            "Scheduler": ipvs.scheduler,
            "ExcludeCIDRs": list(ipvs.exclude_cidrs.iter().map(String::as_str)),
            "StrictARP": ipvs.strict_arp,
            "TCPTimeout": ipvs.tcp_timeout,
            "TCPFinTimeout": ipvs.tcp_fin_timeout,
            "UDPTimeout": ipvs.udp_timeout,
        })
    }

    /// A versioned type of its own in kube-proxy too, so with the names of the file.
    fn logging_in_force(&self) -> Value {
        let said = &self.logging;
        let buffer = json!({"infoBufferSize": "0"});
        let mut logging = json!({
            "format": said.format,
            "flushFrequency": or(&said.flush_frequency, json!(FLUSH_FREQUENCY)),
            "verbosity": said.verbosity,
            "options": or(&said.options, json!({"text": buffer, "json": buffer})),
        });
        if !said.vmodule.is_empty() {
            logging["vmodule"] = json!(said.vmodule);
        }
        logging
    }
}

/// As Go writes a list: `null` without any items.
fn list<'a>(items: impl Iterator<Item = &'a str>) -> Value {
    let items: Vec<_> = items.filter(|item| !item.is_empty()).collect();
    if items.is_empty() {
        return Value::Null;
    }
    json!(items)
}

fn or(said: &Value, usual: Value) -> Value {
    if said.is_null() { usual } else { said.clone() }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As kube-proxy tells it, but for `mode`, which it puts in by itself, and `MinSyncPeriod`.
    #[test]
    fn as_kube_proxy_tells_it() {
        let mut configuration = Configuration::usual();
        configuration.mode = "nftables".into();
        configuration.cluster_cidr = "10.0.0.0/8,fd00::/56".into();
        configuration.ipvs.exclude_cidrs = vec!["192.0.2.0/24".into()];
        let expected = json!({
            "BindAddress": "0.0.0.0",
            "BindAddressHardFail": false,
            "ClientConnection": {
                "AcceptContentTypes": "",
                "Burst": 10,
                "ContentType": "application/vnd.kubernetes.protobuf",
                "Kubeconfig": "",
                "QPS": 5.0,
            },
            "ConfigSyncPeriod": "15m0s",
            "DetectLocal": {
                "BridgeInterface": "",
                "ClusterCIDRs": ["10.0.0.0/8", "fd00::/56"],
                "InterfaceNamePrefix": "",
            },
            "DetectLocalMode": "ClusterCIDR",
            "EnableProfiling": false,
            "FeatureGates": {},
            "HealthzBindAddress": "0.0.0.0:10256",
            "HostnameOverride": "",
            "IPTables": {"LocalhostNodePorts": true, "MasqueradeBit": 14},
            "IPVS": {
                "ExcludeCIDRs": ["192.0.2.0/24"],
                "Scheduler": "",
                "StrictARP": false,
                "TCPFinTimeout": "0s",
                "TCPTimeout": "0s",
                "UDPTimeout": "0s",
            },
            "Linux": {
                "Conntrack": {
                    "MaxPerCore": 32768,
                    "Min": 131_072,
                    "TCPBeLiberal": false,
                    "TCPCloseWaitTimeout": "1h0m0s",
                    "TCPEstablishedTimeout": "24h0m0s",
                    "UDPStreamTimeout": "0s",
                    "UDPTimeout": "0s",
                },
                "MasqueradeAll": false,
                "OOMScoreAdj": -999,
            },
            "Logging": {
                "flushFrequency": "5s",
                "format": "text",
                "options": {"json": {"infoBufferSize": "0"}, "text": {"infoBufferSize": "0"}},
                "verbosity": 0,
            },
            "MetricsBindAddress": "127.0.0.1:10249",
            "MinSyncPeriod": "0s",
            "Mode": "nftables",
            "NFTables": {"MasqueradeBit": 14},
            "NodePortAddresses": null,
            "ShowHiddenMetricsForVersion": "",
            "SyncPeriod": "30s",
            "Windows": {"RunAsService": false},
            "Winkernel": {
                "EnableDSR": false,
                "ForwardHealthCheckVip": false,
                "NetworkName": "",
                "RootHnsEndpointName": "",
                "SourceVip": "",
            },
        });
        assert_eq!(configuration.in_force(), expected);
    }

    #[test]
    fn periods_are_those_of_the_mode() {
        let mut configuration = Configuration::usual();
        configuration.iptables.masquerade_all = true;
        configuration.iptables.sync_period = Span::seconds(10);
        configuration.ipvs.sync_period = Span::seconds(20);
        for (mode, all, period) in [
            ("iptables", true, "10s"),
            ("ipvs", true, "20s"),
            ("nftables", false, "30s"),
        ] {
            configuration.mode = mode.into();
            let told = configuration.in_force();
            assert_eq!(told["Linux"]["MasqueradeAll"], all, "{mode}");
            assert_eq!(told["SyncPeriod"], period, "{mode}");
        }
    }
}
