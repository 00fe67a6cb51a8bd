//! Every verb of every plugin in every version of the specification, and every key of every plugin: two
//! tables, each line of which is a call of the binary. What each key does is tested by the suites that the
//! table names.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use lab::{Host, Netns, Outcome};
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = [
    "0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0",
];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The plugins that come first in a list; the others are chained behind the first of them.
const FIRST: [&str; 4] = ["flannel", "bridge", "host-local", "loopback"];
const CHAINED: [&str; 3] = ["portmap", "bandwidth", "tuning"];

/// Since when a verb is there.
const SINCE: [(&str, &str); 3] = [("CHECK", "0.4.0"), ("STATUS", "1.1.0"), ("GC", "1.1.0")];

struct Node {
    host: Host,
    container: Netns,
}

// === impl Node ===

impl Node {
    fn new() -> Self {
        Self {
            host: Host::new(),
            container: Netns::new(),
        }
    }

    /// A configuration that each plugin does something with.
    fn conf(&self, plugin: &str, version: &str) -> Value {
        let ipam = json!({"type": "host-local", "dataDir": self.host.path("networks"),
            "subnet": "10.1.17.0/24"});
        let mut conf = match plugin {
            "flannel" => self.host.flannel_conf(),
            "bridge" => json!({"isGateway": true, "ipam": ipam}),
            "host-local" => json!({"ipam": ipam}),
            "portmap" => json!({"runtimeConfig": {"portMappings":
                [{"hostPort": 8080, "containerPort": 80, "protocol": "tcp"}]}}),
            "bandwidth" => json!({"ingressRate": 1_000_000, "ingressBurst": 100_000}),
            "tuning" => json!({"mtu": 1300, "dataDir": self.host.path("tuning.d")}),
            _ => json!({}),
        };
        conf["name"] = "cbr0".into();
        conf["type"] = plugin.into();
        conf["cniVersion"] = version.into();
        conf
    }

    fn call(&self, plugin: &'static str, verb: &str, conf: &Value) -> Outcome {
        let call = self.host.call(plugin, verb).env("PATH", PATH);
        call.netns(&self.container).conf(conf).make()
    }

    /// What the plugin before a chained one answered, in the version of the call.
    fn previous(&self, plugin: &str, version: &str) -> Option<Value> {
        let is_chained = CHAINED.contains(&plugin);
        is_chained.then(|| {
            let conf = self.conf("bridge", version);
            self.call("bridge", "ADD", &conf).result()
        })
    }
}

fn is_since(verb: &str, version: &str) -> bool {
    let place = |version: &str| VERSIONS.iter().position(|it| *it == version);
    let since = SINCE.iter().find(|(known, _)| *known == verb);
    since.is_none_or(|(_, since)| place(since) <= place(version))
}

/// What distinguishes the results of the three forms that there have been.
fn has_form(result: &Value, version: &str) -> bool {
    let addresses = result["ips"].as_array().cloned().unwrap_or_default();
    let family = |ip: &Value| ip.get("version").is_some();
    match version {
        "0.1.0" | "0.2.0" => result["ip4"]["ip"].is_string() && result.get("ips").is_none(),
        "0.3.0" | "0.3.1" | "0.4.0" => !addresses.is_empty() && addresses.iter().all(family),
        _ => !addresses.is_empty() && !addresses.iter().any(family),
    }
}

#[test]
fn every_verb_in_every_version_by_every_plugin() {
    for plugin in FIRST.into_iter().chain(CHAINED) {
        for version in VERSIONS {
            let what = format!("{plugin} {version}");
            let node = Node::new();
            let mut conf = node.conf(plugin, version);
            if let Some(previous) = node.previous(plugin, version) {
                conf["prevResult"] = previous;
            }
            if plugin == "bandwidth" && ["0.1.0", "0.2.0"].contains(&version) {
                // A result of these does not say the interface. The reference refuses them as well.
                let (code, message, _) = node.call(plugin, "ADD", &conf).error();
                assert_eq!((code, &*message), (999, "no interfaces provided"));
                continue;
            }
            let result = node.call(plugin, "ADD", &conf).result();
            assert_eq!(result["cniVersion"], version, "{what}");
            assert!(has_form(&result, version), "{what}: {result}");
            conf["prevResult"] = result;
            for verb in ["CHECK", "STATUS", "GC", "DEL", "DEL"] {
                let mut conf = conf.clone();
                if verb == "GC" {
                    let alive = json!([{"containerID": "c1", "ifname": "eth0"}]);
                    conf["cni.dev/valid-attachments"] = alive;
                }
                let outcome = node.call(plugin, verb, &conf);
                if is_since(verb, version) {
                    assert_eq!(outcome.code, Some(0), "{what} {verb}: {outcome:?}");
                    outcome.silent_success();
                } else {
                    let text = format!("config version does not allow {verb}");
                    assert_eq!(outcome.error().0, 1, "{what} {verb}");
                    assert_eq!(outcome.error().1, text, "{what}");
                }
            }
            node.call(plugin, "VERSION", &conf).result();
            let (code, message, _) = node.call(plugin, "FOO", &conf).error();
            assert_eq!((code, &*message), (4, "unknown CNI_COMMAND: FOO"), "{what}");
        }
    }
}

#[test]
fn a_version_that_nobody_knows_is_refused_by_every_verb_and_plugin() {
    let node = Node::new();
    for plugin in FIRST.into_iter().chain(CHAINED) {
        for verb in ["ADD", "DEL", "CHECK", "STATUS", "GC"] {
            let outcome = node.call(plugin, verb, &node.conf(plugin, "9.9.9"));
            let (code, message, details) = outcome.error();
            // libcni's skeleton has two texts for it.
            if SINCE.iter().any(|(newer, _)| *newer == verb) {
                let text = format!("plugin version does not allow {verb}");
                assert_eq!((code, message), (1, text));
            } else {
                assert_eq!((code, &*message), (1, "incompatible CNI versions"));
                let start = "config is \"9.9.9\", plugin supports [\"0.1.0\"";
                assert!(details.starts_with(start), "{details}");
            }
        }
    }
}

/// Each key of the plugins, a value that it can't have, what the error says, and where the key's effect is
/// tested.
const KEYS: &[(&str, &str, &str, &str, &str)] = &[
    ("flannel", "subnetFile", "1", "subnetFile", "attach"),
    ("flannel", "dataDir", "1", "dataDir", "attach"),
    ("flannel", "delegate", "1", "delegate", "attach"),
    (
        "flannel",
        "delegate",
        r#"{"name": "x"}"#,
        "must not have 'name' field",
        "attach",
    ),
    (
        "flannel",
        "delegate",
        r#"{"ipam": {}}"#,
        "must not have 'ipam' field",
        "attach",
    ),
    (
        "flannel",
        "delegate",
        r#"{"type": 1}"#,
        "must have (string) 'type' field",
        "attach",
    ),
    ("flannel", "ipam", "1", "ipam", "attach"),
    ("flannel", "runtimeConfig", "1", "runtimeConfig", "attach"),
    ("bridge", "bridge", "1", "bridge", "keys"),
    ("bridge", "isGateway", "1", "isGateway", "attach"),
    (
        "bridge",
        "isDefaultGateway",
        "1",
        "isDefaultGateway",
        "attach",
    ),
    ("bridge", "forceAddress", "1", "forceAddress", "keys"),
    ("bridge", "ipMasq", "1", "ipMasq", "keys, masquerade"),
    (
        "bridge",
        "ipMasqBackend",
        "\"x\"",
        "unknown ipmasq backend \"x\"",
        "masquerade",
    ),
    ("bridge", "mtu", "\"x\"", "mtu", "attach"),
    ("bridge", "hairpinMode", "1", "hairpinMode", "attach"),
    ("bridge", "promiscMode", "1", "promiscMode", "attach"),
    (
        "bridge",
        "vlan",
        "4095",
        "invalid VLAN ID 4095 (must be between 0 and 4094)",
        "vlan",
    ),
    (
        "bridge",
        "vlanTrunk",
        r#"[{"minID": 0, "maxID": 2}]"#,
        "incorrect trunk minID parameter",
        "vlan",
    ),
    (
        "bridge",
        "preserveDefaultVlan",
        "1",
        "preserveDefaultVlan",
        "vlan",
    ),
    ("bridge", "macspoofchk", "1", "macspoofchk", "spoof_check"),
    ("bridge", "enabledad", "1", "enabledad", "keys"),
    (
        "bridge",
        "disableContainerInterface",
        "true",
        "cannot use IPAM when DisableContainerInterface flag is set",
        "keys",
    ),
    ("bridge", "portIsolation", "1", "portIsolation", "keys"),
    ("bridge", "dns", "1", "dns", "host_local"),
    (
        "bridge",
        "args",
        r#"{"cni": {"mac": "x"}}"#,
        "args.cni.mac",
        "attach",
    ),
    (
        "bridge",
        "runtimeConfig",
        r#"{"mac": "x"}"#,
        "runtimeConfig.mac",
        "attach",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "x"}"#,
        "subnet",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.3/24"}"#,
        "Network has host bits set. For a subnet mask of length 24 the network address is 10.1.2.0",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/31"}"#,
        "Network 10.1.2.0/31 too small to allocate from",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/24", "rangeStart": "10.1.3.1"}"#,
        "10.1.3.1",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/24", "rangeEnd": "10.1.3.1"}"#,
        "10.1.3.1",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/24", "gateway": "x"}"#,
        "gateway",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"ranges": []}"#,
        "no IP ranges specified",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"ranges": [[{"subnet": "10.1.2.0/24"}], [{"subnet": "10.1.2.0/25"}]]}"#,
        "overlaps",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"ranges": [[{"subnet": "10.1.2.0/24"}, {"subnet": "fd00::/64"}]]}"#,
        "mixed address families",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/24", "routes": [{"dst": "x"}]}"#,
        "dst",
        "keys",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/24", "dataDir": 1}"#,
        "dataDir",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        r#"{"subnet": "10.1.2.0/24", "resolvConf": "/nowhere"}"#,
        "/nowhere",
        "host_local",
    ),
    (
        "host-local",
        "ipam",
        "null",
        "IPAM config missing 'ipam' key",
        "host_local",
    ),
    (
        "host-local",
        "runtimeConfig",
        r#"{"ips": ["10.9.9.9"]}"#,
        "10.9.9.9",
        "host_local",
    ),
    (
        "host-local",
        "runtimeConfig",
        r#"{"ipRanges": [[]]}"#,
        "empty range set",
        "host_local",
    ),
    (
        "host-local",
        "args",
        r#"{"cni": {"ips": ["x"]}}"#,
        "x",
        "host_local",
    ),
    (
        "portmap",
        "backend",
        "\"x\"",
        "unrecognized backend \"x\"",
        "portmap",
    ),
    ("portmap", "snat", "1", "snat", "portmap"),
    ("portmap", "masqAll", "1", "masqAll", "plan::portmap"),
    (
        "portmap",
        "markMasqBit",
        "32",
        "MasqMarkBit must be between 0 and 31",
        "plan::portmap",
    ),
    (
        "portmap",
        "externalSetMarkChain",
        "1",
        "externalSetMarkChain",
        "plan::portmap",
    ),
    (
        "portmap",
        "conditionsV4",
        "1",
        "conditionsV4",
        "plan::portmap",
    ),
    (
        "portmap",
        "conditionsV6",
        "1",
        "conditionsV6",
        "plan::portmap",
    ),
    (
        "portmap",
        "runtimeConfig",
        r#"{"portMappings": [{"hostPort": 0, "containerPort": 80, "protocol": "tcp"}]}"#,
        "Invalid host port number: 0",
        "portmap",
    ),
    (
        "portmap",
        "runtimeConfig",
        r#"{"portMappings": [{"hostPort": 80, "containerPort": 0, "protocol": "tcp"}]}"#,
        "Invalid container port number: 0",
        "portmap",
    ),
    (
        "portmap",
        "runtimeConfig",
        r#"{"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "x"}]}"#,
        "x",
        "portmap",
    ),
    (
        "portmap",
        "runtimeConfig",
        r#"{"portMappings": [{"hostPort": 80, "containerPort": 80, "protocol": "tcp", "hostIP": "x"}]}"#,
        "x",
        "portmap",
    ),
    ("bandwidth", "ingressRate", "-1", "ingressRate", "bandwidth"),
    (
        "bandwidth",
        "ingressBurst",
        "0",
        "if rate is set, burst must also be set",
        "bandwidth",
    ),
    (
        "bandwidth",
        "egressRate",
        "1000",
        "if rate is set, burst must also be set",
        "bandwidth",
    ),
    ("bandwidth", "egressBurst", "-1", "egressBurst", "bandwidth"),
    (
        "bandwidth",
        "runtimeConfig",
        r#"{"bandwidth": 1}"#,
        "bandwidth",
        "bandwidth",
    ),
    ("tuning", "sysctl", "1", "sysctl", "tuning"),
    ("tuning", "mac", "\"x\"", "x", "tuning"),
    ("tuning", "mtu", "\"x\"", "mtu", "tuning"),
    ("tuning", "promisc", "1", "promisc", "tuning"),
    ("tuning", "allmulti", "1", "allmulti", "tuning"),
    ("tuning", "txQLen", "\"x\"", "txQLen", "tuning"),
    ("tuning", "dataDir", "1", "dataDir", "tuning"),
];

#[test]
fn every_key_is_read_and_named_where_it_is_wrong() {
    let node = Node::new();
    let previous = node.previous("portmap", "1.1.0").unwrap();
    let mut wrong = Vec::new();
    for (plugin, key, value, named, suite) in KEYS {
        let mut conf = node.conf(plugin, "1.1.0");
        conf["prevResult"] = previous.clone();
        conf[*key] = serde_json::from_str(value).unwrap();
        let call = node.host.call(plugin, "ADD").env("PATH", PATH).id("c2");
        let outcome = call.netns(&node.container).conf(&conf).make();
        let text = format!("{}{}", outcome.stdout, outcome.stderr).replace("\\\"", "\"");
        if outcome.code != Some(1) || !text.contains(named) {
            wrong.push(format!("{plugin} {key}: {value} ({suite}): {text}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
