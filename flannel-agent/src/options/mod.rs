//! The command line: flannel's flags and environment (spec 1.2).

mod arguments;
mod value;

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use clap::Parser;
use kernel::Family;
use regex::bytes::Regex;

use self::{
    arguments::{double_dash, from_environment},
    value::{endpoint, go_bool, pattern, prefix},
};
use crate::{
    model::{ByFamily, LEASE_TTL},
    plan::Rules,
    source::{
        etcd::Credentials,
        kube::{Access, AnnotationPrefix},
    },
};

/// Leases this node's subnet from etcd and keeps its VXLAN overlay, as flanneld does.
///
/// Every flag can also be given in the environment: FLANNELD_ETCD_ENDPOINTS for --etcd-endpoints. Long
/// flags may have a single dash.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "flannel-agent",
    disable_version_flag = true,
    args_override_self = true
)]
pub struct Options {
    /// The etcd servers, separated by commas
    #[arg(
        long,
        value_name = "URL",
        value_delimiter = ',',
        action = clap::ArgAction::Set,
        value_parser = endpoint,
        default_value = "127.0.0.1:4001,127.0.0.1:2379"
    )]
    pub etcd_endpoints: Vec<String>,

    /// What the keys in etcd begin with
    #[arg(long, value_name = "KEY", value_parser = prefix, default_value = "/coreos.com/network")]
    pub etcd_prefix: String,

    /// Certificates that vouch for the etcd servers, in PEM; enough for https://
    #[arg(long, value_name = "PATH")]
    pub etcd_cafile: Option<PathBuf>,

    /// This client's certificate for etcd, in PEM
    #[arg(long, value_name = "PATH")]
    pub etcd_certfile: Option<PathBuf>,

    /// The key of that, in PEM
    #[arg(long, value_name = "PATH")]
    pub etcd_keyfile: Option<PathBuf>,

    /// User of etcd
    #[arg(long, value_name = "NAME")]
    pub etcd_username: Option<String>,

    /// That user's password; better given in the environment, where others don't see it
    #[arg(long, value_name = "PASSWORD")]
    pub etcd_password: Option<String>,

    /// Take this node's subnets from Kubernetes instead of etcd
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub kube_subnet_mgr: bool,

    /// Where the Kubernetes API is; not needed in a pod
    #[arg(long, value_name = "URL")]
    pub kube_api_url: Option<String>,

    /// File that says where the Kubernetes API is and who the agent is; not needed in a pod
    #[arg(long, value_name = "PATH")]
    pub kubeconfig_file: Option<PathBuf>,

    /// What the annotations of nodes begin with
    #[arg(long, value_name = "PREFIX", value_parser = AnnotationPrefix::parse,
        default_value = "flannel.alpha.coreos.com")]
    pub kube_annotation_prefix: AnnotationPrefix,

    /// The network configuration, with --kube-subnet-mgr
    #[arg(
        long,
        value_name = "PATH",
        default_value = "/etc/kube-flannel/net-conf.json"
    )]
    pub net_config_path: PathBuf,

    /// With --kube-subnet-mgr: set the node's condition NetworkUnavailable to False when it is ready
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub set_node_network_unavailable: bool,

    /// Name or address of the interface for traffic between nodes; of several the first that is there
    #[arg(long, value_name = "NAME|IP")]
    pub iface: Vec<String>,

    /// Where no --iface is there: the first interface with an address, or else a name, that matches this
    /// regular expression; of several the first that matches
    #[arg(long, value_name = "REGEX", value_parser = pattern)]
    pub iface_regex: Vec<Regex>,

    /// Where neither --iface nor --iface-regex finds one: the interface by which packets to this address leave
    #[arg(long, value_name = "IP")]
    pub iface_can_reach: Option<IpAddr>,

    /// IPv4 address that other nodes reach this one by, if not the interface's own
    #[arg(long, value_name = "IP")]
    pub public_ip: Option<Ipv4Addr>,

    /// IPv6 address that other nodes reach this one by, if not the interface's own
    #[arg(long, value_name = "IP")]
    pub public_ipv6: Option<Ipv6Addr>,

    /// Masquerade what pods send out of the network
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub ip_masq: bool,

    /// Do not choose the ports of masqueraded connections at random
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub ip_masq_fully_random_disable: bool,

    /// Have rules that let packets of pods be forwarded
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "true", default_missing_value = "true")]
    pub iptables_forward_rules: bool,

    /// How often the rules for masquerading and forwarding are looked at, in seconds, also in nftables
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..))]
    pub iptables_resync: u64,

    /// Drop packets for addresses in the node's subnet that no pod has
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub ip_blackhole_route: bool,

    /// File that tells the CNI plugin the subnet
    #[arg(long, value_name = "PATH", default_value = "/run/flannel/subnet.env")]
    pub subnet_file: PathBuf,

    /// How long before its end the lease is renewed, in minutes: 1 to 1439
    #[arg(
        long,
        value_name = "MINUTES",
        default_value_t = 60,
        allow_negative_numbers = true
    )]
    pub subnet_lease_renew_margin: i64,

    /// Address that /healthz and /readyz are served at
    #[arg(long, value_name = "IP", default_value = "0.0.0.0")]
    pub healthz_ip: IpAddr,

    /// Port that /healthz and /readyz are served at; 0 for not at all
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub healthz_port: u16,

    /// How much is logged, by klog's numbers: 4 for debugging, 8 for everything [default: RUST_LOG, or 0]
    #[arg(short, long, value_name = "LEVEL")]
    pub v: Option<u8>,

    /// Accepted for flanneld's sake, without effect
    #[arg(long, value_name = "PATTERNS")]
    pub vmodule: Option<String>,

    /// Accepted for flanneld's sake, without effect
    #[arg(
        long = "log-backtrace-at",
        alias = "log_backtrace_at",
        value_name = "PLACE"
    )]
    pub log_backtrace_at: Option<String>,

    /// Remove from this node what the agent has put into the kernel and onto the disk, say what, and exit. The lease
    /// stays in etcd until it ends; a stopped agent's alone can be removed
    #[arg(long, value_name = "BOOL", value_parser = go_bool, action = clap::ArgAction::Set,
        num_args = 0..=1, require_equals = true, default_value = "false", default_missing_value = "true")]
    pub cleanup: bool,

    /// Print the version and exit
    #[arg(long)]
    pub version: bool,
}

/// The renewal margin is as long as the lease, or longer, or nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "Invalid subnet-lease-renew-margin option, out of acceptable range: {0} (want 1 to 1439 minutes)"
)]
pub struct InvalidMargin(pub i64);

// === impl Options ===

impl Options {
    /// Parses a command line without the program's name, and an environment. A flag wins over the
    /// environment, where an empty variable is the same as none.
    ///
    /// # Errors
    /// What clap has to say; to be printed by [`clap::Error::exit`].
    pub fn parse_arguments(
        arguments: impl IntoIterator<Item = String>,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, clap::Error> {
        let arguments: Vec<_> = arguments.into_iter().map(double_dash).collect();
        let from_environment = from_environment(&arguments, environment);
        let program = "flannel-agent".to_owned();
        Self::try_parse_from(
            [program]
                .into_iter()
                .chain(from_environment)
                .chain(arguments),
        )
    }

    /// How long after a lease was written it is renewed.
    pub fn renew_after(&self) -> Result<Duration, InvalidMargin> {
        let invalid = InvalidMargin(self.subnet_lease_renew_margin);
        match u64::try_from(self.subnet_lease_renew_margin) {
            Ok(minutes @ 1..1440) => Ok(LEASE_TTL - Duration::from_secs(minutes * 60)),
            _ => Err(invalid),
        }
    }

    /// Which of the given flags are accepted, but do nothing.
    pub fn without_effect(&self) -> Option<String> {
        let given = [
            ("--vmodule", &self.vmodule),
            ("--log_backtrace_at", &self.log_backtrace_at),
        ];
        let names: Vec<_> = given
            .into_iter()
            .filter_map(|(name, value)| value.as_ref().map(|_| name))
            .collect();
        (!names.is_empty()).then(|| names.join(", "))
    }

    /// How to be known to etcd, and it to the agent.
    pub fn credentials(&self) -> Credentials {
        Credentials {
            ca: self.etcd_cafile.clone(),
            certificate: self.etcd_certfile.clone(),
            key: self.etcd_keyfile.clone(),
            username: self.etcd_username.clone(),
            password: self.etcd_password.clone(),
        }
    }

    /// Where the Kubernetes API is.
    pub fn kube_access(&self) -> Access {
        Access {
            url: self.kube_api_url.clone(),
            kubeconfig: self.kubeconfig_file.clone(),
        }
    }

    /// Which rules the packet filter should have.
    pub const fn rules(&self) -> Rules {
        Rules {
            masquerade: self.ip_masq,
            fully_random: !self.ip_masq_fully_random_disable,
            forward: self.iptables_forward_rules,
        }
    }

    /// How often the rules are looked at.
    pub const fn resync(&self) -> Duration {
        Duration::from_secs(self.iptables_resync)
    }

    /// The addresses that other nodes reach this one by, as far as they are given.
    pub fn public(&self) -> ByFamily<IpAddr> {
        let ipv4 = self.public_ip.map(|ip| (Family::V4, ip.into()));
        let ipv6 = self.public_ipv6.map(|ip| (Family::V6, ip.into()));
        ipv4.into_iter().chain(ipv6).collect()
    }
}

#[cfg(test)]
mod tests;
