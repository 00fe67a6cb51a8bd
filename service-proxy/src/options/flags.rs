//! kube-proxy's flags for what the configuration has keys for.

use clap::{ArgAction, Args};

use crate::configuration::{Configuration, Span};

/// kube-proxy's flags for what the configuration has keys for. With `--config` they have no effect.
#[derive(Clone, Debug, Default, PartialEq, Args)]
#[command(next_help_heading = "The configuration by flags, without --config")]
pub struct Flags {
    /// Feature gates of kube-proxy, as in A=true,B=false. With AllowServiceExternalIPs=false externalIPs are not
    /// served; others have no effect.
    #[arg(long, value_name = "GATE=BOOL,...", value_delimiter = ',', value_parser = gate)]
    feature_gates: Vec<(String, bool)>,
    /// The kubeconfig file that leads to the API server; without it and --master, the pod's service account
    /// does.
    #[arg(long, value_name = "FILE", conflicts_with = "manifests")]
    kubeconfig: Option<String>,
    /// No effect: JSON is spoken with the API server.
    #[arg(long, value_name = "TYPE")]
    kube_api_content_type: Option<String>,
    /// No effect: a few requests are all there are.
    #[arg(long, value_name = "NUMBER")]
    kube_api_qps: Option<f32>,
    /// No effect: a few requests are all there are.
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    kube_api_burst: Option<i32>,
    /// The node's address, where it is not the one of the Node object.
    #[arg(long, value_name = "IP")]
    bind_address: Option<String>,
    /// Address and port of /healthz and /livez; empty: they are not served [default: 0.0.0.0:10256]
    #[arg(long, value_name = "IP[:PORT]")]
    healthz_bind_address: Option<String>,
    /// Deprecated: the port of --healthz-bind-address, if that has none; 0: not served.
    #[arg(long, value_name = "PORT", hide = true)]
    healthz_port: Option<u16>,
    /// Address and port of /metrics and /proxyMode; empty: they are not served [default: 127.0.0.1:10249]
    #[arg(long, value_name = "IP[:PORT]")]
    metrics_bind_address: Option<String>,
    /// Deprecated: the port of --metrics-bind-address, if that has none; 0: not served.
    #[arg(long, value_name = "PORT", hide = true)]
    metrics_port: Option<u16>,
    /// End if one of these addresses can't be had; else that is logged and tried again.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    bind_address_hard_fail: Option<bool>,
    /// No effect: there is no /debug/pprof.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    profiling: Option<bool>,
    /// No effect: no metrics are hidden.
    #[arg(long, value_name = "VERSION")]
    show_hidden_metrics_for_version: Option<String>,
    /// What Services are turned into: nftables, iptables or ipvs; see --strict [default: nftables]
    #[arg(long, value_name = "MODE")]
    proxy_mode: Option<String>,
    /// The bit of packets' marks that says that they are to be masqueraded, from 0 to 31 [default: 14]
    #[arg(long, value_name = "BIT", allow_negative_numbers = true)]
    iptables_masquerade_bit: Option<i32>,
    /// Masquerade every connection to a cluster IP, those of pods too.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    masquerade_all: Option<bool>,
    /// Serve NodePorts of TCP and UDP on 127.0.0.1 and ::1 too, unless --proxy-mode=nftables or --nodeport-addresses says
    /// which addresses to serve. In iptables mode, IPv4's loopback addresses are routed for that, with SCTP
    /// [default: true]
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    iptables_localhost_nodeports: Option<bool>,
    /// How often everything is compared with the kernel, as in 30s or 1m30s [default: 30s]
    #[arg(
        long,
        visible_alias = "sync-period",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    iptables_sync_period: Option<Span>,
    /// How long it is at the least from one change of the kernel to the next [default: 0s]
    #[arg(
        long,
        visible_alias = "min-sync-period",
        value_name = "DURATION",
        allow_hyphen_values = true
    )]
    iptables_min_sync_period: Option<Span>,
    /// In ipvs mode, how often everything is compared with the kernel [default: 30s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    ipvs_sync_period: Option<Span>,
    /// In ipvs mode, how long it is at the least from one change of the kernel to the next [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    ipvs_min_sync_period: Option<Span>,
    /// In ipvs mode, what chooses the endpoint of a connection: rr, wrr, lc, wlc, sh, dh, mh, sed, nq or another that
    /// the kernel has [default: rr]
    #[arg(long, value_name = "NAME")]
    ipvs_scheduler: Option<String>,
    /// In ipvs mode, networks whose virtual servers are not removed, whoever made them.
    #[arg(long, value_name = "CIDR[,CIDR]", value_delimiter = ',', action = ArgAction::Append)]
    ipvs_exclude_cidrs: Vec<String>,
    /// In ipvs mode, answer ARP for no address that is not on the interface asked: sets net.ipv4.conf.all.arp_ignore
    /// to 1 and arp_announce to 2.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    ipvs_strict_arp: Option<bool>,
    /// In ipvs mode, how long an idle TCP connection is remembered; 0: as the kernel has it [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    ipvs_tcp_timeout: Option<Span>,
    /// In ipvs mode, how long a TCP connection is remembered after one side has ended it; 0: as the kernel has it
    /// [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    ipvs_tcpfin_timeout: Option<Span>,
    /// In ipvs mode, how long a UDP flow is remembered after its last packet; 0: as the kernel has it [default: 0s]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    ipvs_udp_timeout: Option<Span>,
    /// How connections from pods of this node are known, which reach all endpoints and are not masqueraded:
    /// ClusterCIDR, NodeCIDR, BridgeInterface or InterfaceNamePrefix [default: ClusterCIDR]
    #[arg(long, value_name = "MODE")]
    detect_local_mode: Option<String>,
    /// With --detect-local-mode=BridgeInterface: the bridge that pods are behind.
    #[arg(long, value_name = "NAME")]
    pod_bridge_interface: Option<String>,
    /// With --detect-local-mode=InterfaceNamePrefix: how the names of pods' interfaces begin.
    #[arg(long, value_name = "PREFIX")]
    pod_interface_name_prefix: Option<String>,
    /// The cluster's pod network, one per family; connections to Services from elsewhere are masqueraded. None:
    /// no connection is, but an endpoint's to itself.
    #[arg(long, value_name = "CIDR[,CIDR]")]
    cluster_cidr: Option<String>,
    /// Networks of the node's addresses that NodePorts are served on; of a family without any, on all addresses
    /// but loopback. Or words: primary (the Node object's), localhost (127.0.0.1 and ::1, TCP alone), all.
    #[arg(long, value_name = "CIDR|WORD,...", value_delimiter = ',', action = ArgAction::Append)]
    nodeport_addresses: Vec<String>,
    /// How soon the kernel kills this program when memory runs out, from -1000 (never) to 1000 [default: -999]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    oom_score_adj: Option<i32>,
    /// Tracked flows for each processor; 0: the limit is left as it is [default: 32768]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    conntrack_max_per_core: Option<i32>,
    /// Tracked flows at the least, whatever --conntrack-max-per-core comes to [default: 131072]
    #[arg(long, value_name = "NUMBER", allow_negative_numbers = true)]
    conntrack_min: Option<i32>,
    /// How long idle TCP connections are tracked; 0: that is left as it is [default: 24h]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    conntrack_tcp_timeout_established: Option<Span>,
    /// How long TCP connections are tracked that one side has closed; 0: that is left as it is [default: 1h]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    conntrack_tcp_timeout_close_wait: Option<Span>,
    /// Take TCP packets out of the window for their connection's all the same.
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", value_parser = boolean)]
    conntrack_tcp_be_liberal: Option<bool>,
    /// How long UDP is tracked that was not answered; 0: that is left as it is [default: 0]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    conntrack_udp_timeout: Option<Span>,
    /// How long UDP is tracked that was answered; 0: that is left as it is [default: 0]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    conntrack_udp_timeout_stream: Option<Span>,
    /// No effect: every change is told at once.
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    config_sync_period: Option<Span>,
}

// === impl Flags ===

impl Flags {
    /// Whether none is given.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Puts what is given into a configuration with defaults.
    pub fn apply(self, configuration: &mut Configuration) {
        configuration
            .feature_gates
            .extend(self.feature_gates.iter().cloned());
        // Those of iptables mode are those of nftables mode too (as in kube-proxy).
        for (bit, all) in [
            (
                &mut configuration.iptables.masquerade_bit,
                &mut configuration.iptables.masquerade_all,
            ),
            (
                &mut configuration.nftables.masquerade_bit,
                &mut configuration.nftables.masquerade_all,
            ),
        ] {
            *bit = self.iptables_masquerade_bit.or(*bit);
            set(all, self.masquerade_all);
        }
        for (period, least) in [
            (
                &mut configuration.iptables.sync_period,
                &mut configuration.iptables.min_sync_period,
            ),
            (
                &mut configuration.nftables.sync_period,
                &mut configuration.nftables.min_sync_period,
            ),
        ] {
            set(period, self.iptables_sync_period);
            set(least, self.iptables_min_sync_period);
        }
        let localhost = &mut configuration.iptables.localhost_node_ports;
        *localhost = self.iptables_localhost_nodeports.or(*localhost);
        set(&mut configuration.mode, self.proxy_mode.clone());
        set(&mut configuration.cluster_cidr, self.cluster_cidr.clone());
        set_list(
            &mut configuration.node_port_addresses,
            &self.nodeport_addresses,
        );
        configuration.oom_score_adj = self.oom_score_adj.or(configuration.oom_score_adj);
        set(
            &mut configuration.config_sync_period,
            self.config_sync_period,
        );
        self.apply_serving(configuration);
        self.apply_detection(configuration);
        self.apply_conntrack(configuration);
        self.apply_ipvs(configuration);
        self.apply_connection(configuration);
    }

    /// What to say of flags that will not be there for ever.
    pub fn deprecations(&self) -> Vec<String> {
        [
            (
                self.healthz_port.is_some(),
                "--healthz-port",
                "--healthz-bind-address",
            ),
            (
                self.metrics_port.is_some(),
                "--metrics-port",
                "--metrics-bind-address",
            ),
        ]
        .into_iter()
        .filter(|(given, ..)| *given)
        .map(|(_, old, new)| format!("{old} is deprecated; say {new} instead"))
        .collect()
    }

    fn apply_serving(&self, configuration: &mut Configuration) {
        set(&mut configuration.bind_address, self.bind_address.clone());
        let servers = [
            (
                &mut configuration.healthz_bind_address,
                &self.healthz_bind_address,
                self.healthz_port,
                10256,
            ),
            (
                &mut configuration.metrics_bind_address,
                &self.metrics_bind_address,
                self.metrics_port,
                10249,
            ),
        ];
        for (address, given, port, usual) in servers {
            set(address, given.clone());
            if port == Some(0) {
                address.clear();
            }
            crate::configuration::append_port(address, port.unwrap_or(usual));
        }
        set(
            &mut configuration.bind_address_hard_fail,
            self.bind_address_hard_fail,
        );
        set(&mut configuration.enable_profiling, self.profiling);
        let version = self.show_hidden_metrics_for_version.clone();
        set(&mut configuration.show_hidden_metrics_for_version, version);
    }

    fn apply_detection(&self, configuration: &mut Configuration) {
        set(
            &mut configuration.detect_local_mode,
            self.detect_local_mode.clone(),
        );
        let detect = &mut configuration.detect_local;
        set(
            &mut detect.bridge_interface,
            self.pod_bridge_interface.clone(),
        );
        set(
            &mut detect.interface_name_prefix,
            self.pod_interface_name_prefix.clone(),
        );
    }

    fn apply_conntrack(&self, configuration: &mut Configuration) {
        let conntrack = &mut configuration.conntrack;
        conntrack.max_per_core = self.conntrack_max_per_core.or(conntrack.max_per_core);
        conntrack.min = self.conntrack_min.or(conntrack.min);
        let established = &mut conntrack.tcp_established_timeout;
        *established = self.conntrack_tcp_timeout_established.or(*established);
        let close_wait = &mut conntrack.tcp_close_wait_timeout;
        *close_wait = self.conntrack_tcp_timeout_close_wait.or(*close_wait);
        set(&mut conntrack.tcp_be_liberal, self.conntrack_tcp_be_liberal);
        set(&mut conntrack.udp_timeout, self.conntrack_udp_timeout);
        set(
            &mut conntrack.udp_stream_timeout,
            self.conntrack_udp_timeout_stream,
        );
    }

    fn apply_ipvs(&self, configuration: &mut Configuration) {
        let ipvs = &mut configuration.ipvs;
        set(&mut ipvs.sync_period, self.ipvs_sync_period);
        set(&mut ipvs.min_sync_period, self.ipvs_min_sync_period);
        set(&mut ipvs.scheduler, self.ipvs_scheduler.clone());
        set_list(&mut ipvs.exclude_cidrs, &self.ipvs_exclude_cidrs);
        set(&mut ipvs.strict_arp, self.ipvs_strict_arp);
        set(&mut ipvs.tcp_timeout, self.ipvs_tcp_timeout);
        set(&mut ipvs.tcp_fin_timeout, self.ipvs_tcpfin_timeout);
        set(&mut ipvs.udp_timeout, self.ipvs_udp_timeout);
    }

    fn apply_connection(&self, configuration: &mut Configuration) {
        let connection = &mut configuration.client_connection;
        set(&mut connection.kubeconfig, self.kubeconfig.clone());
        set(
            &mut connection.content_type,
            self.kube_api_content_type.clone(),
        );
        set(&mut connection.qps, self.kube_api_qps);
        set(&mut connection.burst, self.kube_api_burst);
    }
}

fn set<T>(field: &mut T, given: Option<T>) {
    if let Some(given) = given {
        *field = given;
    }
}

fn set_list(field: &mut Vec<String>, given: &[String]) {
    let given: Vec<_> = given
        .iter()
        .map(|text| text.trim())
        .filter(|text| !text.is_empty())
        .collect();
    if !given.is_empty() {
        *field = given.into_iter().map(ToOwned::to_owned).collect();
    }
}

/// As Go reads booleans (`strconv.ParseBool`).
pub fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("must be true or false".into()),
    }
}

fn gate(text: &str) -> Result<(String, bool), String> {
    let (name, value) = text.split_once('=').ok_or("must be as in Gate=true")?;
    boolean(value.trim()).map(|value| (name.trim().to_owned(), value))
}
