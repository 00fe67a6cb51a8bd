//! The command line: flannel's flags and environment (spec 1.2).

use std::{
    ffi::OsString,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    time::Duration,
};

use clap::{CommandFactory, Parser};
use kernel::Family;
use regex::bytes::{Regex, RegexBuilder};

use crate::{
    model::{ByFamily, LEASE_TTL},
    plan::Rules,
    source::{
        etcd::Credentials,
        kube::{Access, AnnotationPrefix},
    },
};

/// What every environment variable of flannel begins with.
const ENVIRONMENT: &str = "FLANNELD_";

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

/// Go's flags have one dash or two.
fn double_dash(argument: String) -> String {
    let is_name =
        |text: &str| text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic());
    match argument.strip_prefix('-') {
        Some(name) if is_name(name) => format!("--{name}"),
        _ => argument,
    }
}

/// The flags that the environment stands for and the command line does not have.
fn from_environment(
    arguments: &[String],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let mut flags = Vec::new();
    for (variable, value) in environment {
        let (Some(variable), false) = (variable.to_str(), value.is_empty()) else {
            continue;
        };
        let Some(name) = variable.strip_prefix(ENVIRONMENT) else {
            continue;
        };
        let name = name.to_ascii_lowercase().replace('_', "-");
        if is_flag(&name) && !is_given(arguments, &name) {
            flags.push(format!("--{name}={}", value.to_string_lossy()));
        }
    }
    flags
}

fn is_flag(name: &str) -> bool {
    Options::command()
        .get_arguments()
        .any(|argument| argument.get_long() == Some(name) && argument.get_action().takes_values())
}

fn is_given(arguments: &[String], name: &str) -> bool {
    arguments.iter().any(|argument| {
        // -v has but one dash.
        let given = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-'))
            .and_then(|given| given.split('=').next());
        given.is_some_and(|given| given.replace('_', "-") == name)
    })
}

/// What Go's `strconv.ParseBool` takes.
fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("want true or false".into()),
    }
}

/// A regular expression as Go takes it, whose classes such as `\\d` are of ASCII.
fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).unicode(false).build()
}

fn endpoint(text: &str) -> Result<String, String> {
    let address = match text.split_once("://") {
        Some(("http" | "https", address)) => address,
        Some((scheme, _)) => {
            return Err(format!(
                "scheme {scheme} is not supported: want http://HOST:PORT or https://HOST:PORT"
            ));
        }
        None => text,
    };
    if address.is_empty() {
        return Err("want http://HOST:PORT or https://HOST:PORT".into());
    }
    Ok(text.to_owned())
}

fn prefix(text: &str) -> Result<String, String> {
    match text.trim_end_matches('/') {
        "" => Err("want a key as /coreos.com/network".into()),
        prefix => Ok(prefix.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str], environment: &[(&str, &str)]) -> Result<Options, String> {
        let arguments = arguments.iter().map(|&text| text.to_owned());
        let environment = environment
            .iter()
            .map(|&(key, value)| (key.into(), value.into()));
        Options::parse_arguments(arguments, environment).map_err(|error| error.to_string())
    }

    #[test]
    fn defaults_are_flannels() {
        let options = parse(&[], &[]).unwrap();
        assert_eq!(options.etcd_endpoints, ["127.0.0.1:4001", "127.0.0.1:2379"]);
        assert_eq!(options.etcd_prefix, "/coreos.com/network");
        assert_eq!(
            options.subnet_file,
            PathBuf::from("/run/flannel/subnet.env")
        );
        assert_eq!(options.renew_after(), Ok(Duration::from_secs(23 * 3600)));
        assert_eq!(
            (options.healthz_ip.to_string(), options.healthz_port),
            ("0.0.0.0".to_owned(), 0)
        );
    }

    #[test]
    fn flags_have_one_dash_or_two() {
        for arguments in [
            &["--etcd-endpoints=http://a:1,b:2", "--iface", "eth0"][..],
            &["-etcd-endpoints", "http://a:1,b:2", "-iface=eth0"],
            &[
                "-iface=eth0",
                "-etcd-endpoints=c:3",
                "-etcd-endpoints",
                "http://a:1,b:2",
            ],
        ] {
            let options = parse(arguments, &[]).unwrap();
            assert_eq!(
                options.etcd_endpoints,
                ["http://a:1", "b:2"],
                "{arguments:?}"
            );
            assert_eq!(options.iface, ["eth0"]);
        }
    }

    #[test]
    fn booleans_are_gos() {
        for (arguments, environment, masquerade, forward) in [
            (&[][..], &[][..], false, true),
            (&["-ip-masq"], &[], true, true),
            (
                &["--ip-masq=T", "-iptables-forward-rules=0"],
                &[],
                true,
                false,
            ),
            (
                &["--ip-masq=false"],
                &[("FLANNELD_IP_MASQ", "true")],
                false,
                true,
            ),
            (&[], &[("FLANNELD_IP_MASQ", "1")], true, true),
        ] {
            let rules = parse(arguments, environment).unwrap().rules();
            assert_eq!((rules.masquerade, rules.forward), (masquerade, forward));
        }
    }

    #[test]
    fn a_flag_wins_over_the_environment() {
        let environment = [
            ("FLANNELD_IFACE", "eth1"),
            ("FLANNELD_ETCD_PREFIX", "/x/"),
            ("FLANNELD_PUBLIC_IP", ""),
            ("FLANNELD_SERVICE_HOST", "10.0.0.1"),
            ("IFACE", "eth2"),
        ];
        let options = parse(&["-iface", "eth0"], &environment).unwrap();
        assert_eq!(options.iface, ["eth0"]);
        assert_eq!(options.etcd_prefix, "/x");
        assert_eq!(options.public_ip, None);
        assert_eq!(parse(&[], &environment).unwrap().iface, ["eth1"]);
    }

    #[test]
    fn kubernetes_mode_has_flannels_flags() {
        let options = parse(&[], &[]).unwrap();
        assert!(!options.kube_subnet_mgr && options.set_node_network_unavailable);
        let path = PathBuf::from("/etc/kube-flannel/net-conf.json");
        assert_eq!(options.net_config_path, path);
        let options = parse(
            &["-kube-subnet-mgr", "--set-node-network-unavailable=false"],
            &[
                ("FLANNELD_KUBE_API_URL", "http://a:1"),
                ("FLANNELD_KUBECONFIG_FILE", "/x"),
            ],
        )
        .unwrap();
        assert!(options.kube_subnet_mgr && !options.set_node_network_unavailable);
        let access = options.kube_access();
        assert_eq!(access.url.as_deref(), Some("http://a:1"));
        assert_eq!(access.kubeconfig, Some(PathBuf::from("/x")));
    }

    #[test]
    fn what_is_wrong_is_refused_by_name() {
        for (arguments, environment, name) in [
            (&["--iface-regex=eth["][..], &[][..], "--iface-regex"),
            (
                &[],
                &[("FLANNELD_KUBE_ANNOTATION_PREFIX", "a.b/c/d")],
                "prefix can contain at most single slash",
            ),
            (&["-ip-masq=yes"], &[], "--ip-masq"),
            (&["-iptables-resync=0"], &[], "--iptables-resync"),
            (&["--etcd-endpoints=ftp://a:1"], &[], "--etcd-endpoints"),
            (&["--etcd-prefix=/"], &[], "--etcd-prefix"),
            (&["--public-ip=fd00::1"], &[], "--public-ip"),
        ] {
            let error = parse(arguments, environment).unwrap_err();
            assert!(error.contains(name), "{error}");
        }
    }

    #[test]
    fn patterns_are_taken_in_their_order() {
        let options = parse(&["-iface-regex", r"^10\.\d", "--iface-regex=eth.*"], &[]).unwrap();
        let patterns: Vec<_> = options.iface_regex.iter().map(Regex::as_str).collect();
        assert_eq!(patterns, [r"^10\.\d", "eth.*"]);
        let environment = [("FLANNELD_IFACE_REGEX", "e.*")];
        assert_eq!(parse(&[], &environment).unwrap().iface_regex.len(), 1);
    }

    #[test]
    fn klogs_flags_are_taken() {
        for (arguments, environment, v) in [
            (&[][..], &[][..], None),
            (&["-v=5"], &[], Some(5)),
            (&["-v", "4"], &[("FLANNELD_V", "9")], Some(4)),
            (&["--v=2"], &[], Some(2)),
            (&[], &[("FLANNELD_V", "9")], Some(9)),
        ] {
            assert_eq!(parse(arguments, environment).unwrap().v, v, "{arguments:?}");
        }
        let environment = [("FLANNELD_LOG_BACKTRACE_AT", "a.go:1")];
        let options = parse(&["-vmodule=a=1"], &environment).unwrap();
        assert_eq!(
            options.without_effect().as_deref(),
            Some("--vmodule, --log_backtrace_at")
        );
        let options = parse(&["-log_backtrace_at", "b.go:2"], &environment).unwrap();
        assert_eq!(options.log_backtrace_at.as_deref(), Some("b.go:2"));
        assert_eq!(parse(&[], &[]).unwrap().without_effect(), None);
    }

    #[test]
    fn the_margin_is_within_the_lease() {
        for margin in ["1", "1439"] {
            assert!(
                parse(&["-subnet-lease-renew-margin", margin], &[])
                    .unwrap()
                    .renew_after()
                    .is_ok()
            );
        }
        for margin in ["0", "1440", "-5"] {
            let options = parse(&["-subnet-lease-renew-margin", margin], &[]).unwrap();
            let error = options.renew_after().unwrap_err().to_string();
            assert!(
                error.starts_with(
                    "Invalid subnet-lease-renew-margin option, out of acceptable range"
                )
            );
        }
    }
}
