//! What a runtime sees of checks, versions and error texts (CNI specification 1.1.0, libcni's skeleton).

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use lab::{Host, Netns};
use serde_json::{Value, json};

const VERSIONS: &str = r#"{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}"#;

#[test]
fn version_needs_nothing_and_ignores_stdin() {
    let host = Host::new();
    for plugin in ["flannel", "bridge", "host-local"] {
        let call = host.call(plugin, "VERSION").env("CNI_PATH", "");
        let outcome = call.id("").stdin("{no json").make();
        assert_eq!(outcome.stdout, format!("{VERSIONS}\n"));
        assert_eq!(outcome.code, Some(0));
    }
}

#[test]
fn a_person_is_told_what_it_is() {
    let host = Host::new();
    let outcome = host.call("bridge", "").make();
    assert_eq!((outcome.code, &*outcome.stdout), (Some(0), ""));
    assert_eq!(
        outcome.stderr,
        format!(
            "CNI bridge plugin v{}\n\
             CNI protocol versions supported: 0.1.0, 0.2.0, 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0\n",
            release::text()
        )
    );
    let outcome = host.call("something-else", "ADD").make();
    assert_eq!((outcome.code, &*outcome.stdout), (Some(1), ""));
    assert_eq!(
        outcome.stderr,
        "\"something-else\" is no plugin of this binary: copy or link it to one of the names bandwidth, bridge, flannel, host-local, loopback, portmap, tuning, and call it by that\n"
    );
}

#[test]
fn errors_are_printed_as_libcni_prints_them() {
    let host = Host::new();
    let outcome = host.call("bridge", "ADD").id("a b").make();
    assert_eq!(
        outcome.stdout,
        "{\n    \"code\": 4,\n    \"msg\": \"invalid characters in containerID\",\n    \"details\": \"a b\"\n}"
    );
}

#[test]
fn variables_are_checked_before_anything_is_read() {
    let host = Host::new();
    for (verb, variable, value, message, details) in [
        (
            "ADD",
            "CNI_CONTAINERID",
            "-x",
            "invalid characters in containerID",
            "-x",
        ),
        (
            "DEL",
            "CNI_IFNAME",
            "sixteen-bytes-xx",
            "interface name is too long",
            "interface name should be less than 16 characters",
        ),
        ("CHECK", "CNI_IFNAME", "..", "interface name is . or ..", ""),
        (
            "ADD",
            "CNI_IFNAME",
            "a b",
            "interface name contains / or : or whitespace characters",
            "",
        ),
        (
            "DEL",
            "CNI_IFNAME",
            "",
            "required env variables [CNI_IFNAME] missing",
            "",
        ),
        (
            "ADD",
            "CNI_IFNAME",
            "",
            "required env variables [CNI_NETNS,CNI_IFNAME] missing",
            "",
        ),
        (
            "CHECK",
            "CNI_PATH",
            "",
            "required env variables [CNI_NETNS,CNI_PATH] missing",
            "",
        ),
        (
            "GC",
            "CNI_PATH",
            "",
            "required env variables [CNI_PATH] missing",
            "",
        ),
        (
            "STATUS",
            "CNI_PATH",
            "",
            "required env variables [CNI_PATH] missing",
            "",
        ),
    ] {
        let error = host
            .call("flannel", verb)
            .env(variable, value)
            .make()
            .error();
        assert_eq!(
            error,
            (4, message.into(), details.into()),
            "{verb} {variable}={value}"
        );
    }
}

#[test]
fn input_is_checked_before_the_verb_and_the_verb_before_the_version() {
    let host = Host::new();
    let supported = r#"["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#;
    let of_version = |version: &str| json!({"name": "n", "cniVersion": version}).to_string();
    for (verb, stdin, code, message, details) in [
        (
            "FOO",
            String::new(),
            6,
            "error unmarshall network config: unexpected end of JSON input",
            String::new(),
        ),
        (
            "FOO",
            json!({"name": ""}).to_string(),
            7,
            "missing network name",
            String::new(),
        ),
        (
            "ADD",
            json!({"name": "a/b"}).to_string(),
            7,
            "invalid characters found in network name",
            "a/b".into(),
        ),
        (
            "FOO",
            of_version("9.9.9"),
            4,
            "unknown CNI_COMMAND: FOO",
            String::new(),
        ),
        (
            "ADD",
            of_version("9.9.9"),
            1,
            "incompatible CNI versions",
            format!(r#"config is "9.9.9", plugin supports {supported}"#),
        ),
        (
            "CHECK",
            of_version("0.3.1"),
            1,
            "config version does not allow CHECK",
            String::new(),
        ),
        (
            "CHECK",
            of_version("9.9.9"),
            1,
            "plugin version does not allow CHECK",
            String::new(),
        ),
        (
            "GC",
            of_version("1.0.0"),
            1,
            "config version does not allow GC",
            String::new(),
        ),
        (
            "STATUS",
            of_version(""),
            1,
            "config version does not allow STATUS",
            String::new(),
        ),
    ] {
        let call = host.call("bridge", verb).env("CNI_NETNS", "/nowhere");
        let error = call.stdin(&stdin).make().error();
        assert_eq!(error, (code, message.into(), details), "{verb} {stdin}");
    }
}

#[test]
fn a_configuration_that_can_not_be_read_is_an_io_error() {
    let host = Host::new();
    for verb in ["ADD", "DEL", "CHECK", "GC", "STATUS", "FOO"] {
        let directory = std::fs::File::open(host.path(".")).unwrap();
        let call = host.call("bridge", verb).env("CNI_NETNS", "/nowhere");
        let (code, message, details) = call.make_from(directory).error();
        assert_eq!((code, &*details), (5, ""), "{verb}");
        let start = "error reading from stdin: ";
        assert!(message.starts_with(start), "{verb}: {message}");
        assert!(
            message.to_lowercase().contains("is a directory"),
            "{message}"
        );
    }
}

#[test]
fn arguments_are_pairs_of_known_keys() {
    let host = Host::new();
    let container = Netns::new();
    let conf = host.flannel_conf();
    for (args, message) in [
        ("FOO=1", r#"ARGS: unknown args ["FOO=1"]"#),
        ("A=1;B=2", r#"ARGS: unknown args ["A=1" "B=2"]"#),
        ("x", r#"ARGS: invalid pair "x""#),
        ("IgnoreUnknown=1;x", r#"ARGS: invalid pair "x""#),
        ("IP=1=2", r#"ARGS: invalid pair "IP=1=2""#),
        (
            "IgnoreUnknown=maybe",
            r#"ARGS: error parsing value of pair "IgnoreUnknown=maybe": boolean unmarshal error: invalid input maybe"#,
        ),
    ] {
        let add = host.call("flannel", "ADD").netns(&container).conf(&conf);
        let error = add.env("CNI_ARGS", args).make().error();
        assert_eq!(error, (4, message.into(), String::new()), "{args}");
        assert_eq!(host.files("networks/cbr0").len(), 0, "{args}");
    }
    // As kubelet's runtimes do.
    let args = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;K8S_POD_UID=x";
    let add = host.call("flannel", "ADD").netns(&container).conf(&conf);
    add.env("CNI_ARGS", args).make().result();
}

#[test]
fn no_version_is_the_first() {
    let host = Host::new();
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    for version in [json!(""), json!(null)] {
        conf["cniVersion"] = version;
        let result = host.add(&conf, "c1", &container);
        assert_eq!(result["cniVersion"], "0.1.0");
        assert_eq!(result["ip4"]["ip"], "10.1.17.2/24");
        host.del(&conf, "c1", &container);
        std::fs::remove_dir_all(host.path("networks")).unwrap();
    }
}

#[test]
fn an_error_that_has_no_code_of_its_own_is_999() {
    let host = Host::new();
    let add = host.call("flannel", "ADD").env("CNI_NETNS", "/nowhere");
    let (code, message, _) = add.conf(&host.flannel_conf()).make().error();
    assert_eq!(code, 999);
    assert!(
        message.starts_with("failed to open netns \"/nowhere\": "),
        "{message}"
    );
}

#[test]
fn where_nothing_was_made_status_and_gc_make_nothing() {
    let host = Host::new();
    let mut conf = host.flannel_conf();
    for plugin in ["bridge", "flannel", "host-local"] {
        for (verb, list) in [
            ("STATUS", json!(null)),
            ("GC", json!(null)),
            ("GC", json!([])),
        ] {
            conf["cni.dev/valid-attachments"] = list;
            let call = host.call(plugin, verb).conf(&conf);
            call.make().silent_success();
        }
    }
    assert!(host.files("networks").is_empty() && host.files("flannel.d").is_empty());
    assert_eq!(host.netns.links(), ["lo"]);
}

#[test]
fn a_check_needs_what_the_add_answered() {
    let host = Host::new();
    let mut conf = host.flannel_conf();
    let check = |plugin: &'static str, conf: &Value| {
        let call = host.call(plugin, "CHECK").env("CNI_NETNS", "/nowhere");
        call.conf(conf).make().error()
    };
    for plugin in ["bridge", "flannel", "host-local"] {
        let missing = (7, "Required prevResult missing".into(), String::new());
        assert_eq!(check(plugin, &conf), missing, "{plugin}");
    }
    conf["prevResult"] = json!({"ips": [{"address": "ten"}]});
    let text = "could not parse prevResult: ips[0].address: invalid CIDR address: ten";
    for plugin in ["bridge", "flannel", "host-local"] {
        assert_eq!(check(plugin, &conf), (6, text.into(), String::new()));
    }
}

#[test]
fn a_data_directory_that_can_be_none_is_not_available() {
    let host = Host::new();
    let mut conf = host.flannel_conf();
    conf["ipam"]["dataDir"] = json!(host.path("subnet.env"));
    for plugin in ["bridge", "flannel", "host-local"] {
        let (code, message, _) = if plugin == "bridge" {
            let mut conf = conf.clone();
            conf["ipam"]["type"] = "host-local".into();
            host.call(plugin, "STATUS").conf(&conf).make().error()
        } else {
            host.call(plugin, "STATUS").conf(&conf).make().error()
        };
        assert_eq!(code, 50, "{message}");
        assert!(message.ends_with("subnet.env is no directory"), "{message}");
    }
}

#[test]
fn flannel_is_ready_once_the_agent_has_written_its_file() {
    let host = Host::new();
    let status = || {
        host.call("flannel", "STATUS")
            .conf(&host.flannel_conf())
            .make()
    };
    status().silent_success();
    let file = host.path("subnet.env");
    std::fs::write(&file, "FLANNEL_MTU=1450\n").unwrap();
    let (code, message, _) = status().error();
    assert_eq!(code, 50);
    assert!(message.contains("is missing FLANNEL_NETWORK"), "{message}");
    std::fs::remove_file(&file).unwrap();
    let (code, message, _) = status().error();
    let text = format!(
        "failed to load flannel 'subnet.env' file: open {}: no such file or directory. Check the flannel pod log for this node.",
        file.display()
    );
    assert_eq!((code, &message), (50, &text));
    let container = Netns::new();
    let add = host.call("flannel", "ADD").netns(&container);
    let error = add.conf(&host.flannel_conf()).make().error();
    assert_eq!(error, (11, text, String::new()));
    assert_eq!(host.netns.links(), ["lo"]);
}

#[test]
fn the_plugins_own_namespace_is_refused() {
    let host = Host::new();
    let add = || {
        host.call("flannel", "ADD")
            .netns(&host.netns)
            .conf(&host.flannel_conf())
    };
    let message = "plugin's netns and netns from CNI_NETNS should not be the same";
    assert_eq!(add().make().error(), (8, message.into(), String::new()));
    assert_eq!(
        (host.netns.links(), host.files("networks")),
        (vec!["lo".into()], vec![])
    );
    let del = host
        .call("flannel", "DEL")
        .netns(&host.netns)
        .conf(&host.flannel_conf());
    assert_eq!(del.make().error().0, 8);
    // A runtime may know better.
    let loopback = || {
        let call = host.call("loopback", "ADD").netns(&host.netns);
        call.conf(&json!({"name": "lo", "cniVersion": "1.1.0"}))
    };
    assert_eq!(loopback().make().error().0, 8);
    let overridden = loopback().env("CNI_NETNS_OVERRIDE", "1").make();
    assert_eq!(overridden.result()["ips"][0]["address"], "127.0.0.1/8");
}

#[test]
fn what_can_not_be_is_refused_by_name() {
    let host = Host::new();
    let container = Netns::new();
    let refused = |conf: &Value| {
        let call = host.call("flannel", "ADD").netns(&container).conf(conf);
        let (code, message, _) = call.make().error();
        assert_eq!(code, 7, "{message}");
        assert_eq!(
            (host.netns.links(), host.files("networks")),
            (vec!["lo".into()], vec![])
        );
        assert!(host.files("flannel.d").is_empty());
        message
    };
    let mut conf = host.flannel_conf();
    for (key, value, start) in [
        (
            "vlan",
            json!(4095),
            "invalid VLAN ID 4095 (must be between 0 and 4094)",
        ),
        (
            "ipMasqBackend",
            json!("ipchains"),
            r#"unknown ipmasq backend "ipchains""#,
        ),
        (
            "name",
            json!("x"),
            "'delegate' dictionary must not have 'name' field",
        ),
    ] {
        conf["delegate"] = json!({key: value});
        let message = refused(&conf);
        assert!(message.starts_with(start), "{message}");
    }
}

#[test]
fn a_call_is_logged_where_somebody_asks() {
    let host = Host::new();
    let container = Netns::new();
    let log = host.path("log");
    let mut conf = host.flannel_conf();
    let call = |verb: &str, conf: &Value| {
        let call = host.call("flannel", verb).netns(&container);
        call.conf(conf)
    };
    call("ADD", &conf).make().result();
    assert!(!log.exists());
    let by_variable = call("DEL", &conf).env("CNI_LOG_FILE", &log.display().to_string());
    by_variable.make().silent_success();
    conf["logFile"] = json!(log);
    call("CHECK", &conf).make().error();
    let text = std::fs::read_to_string(&log).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let [del, check] = lines.as_slice() else {
        panic!("{text}")
    };
    assert!(
        del.contains(" flannel DEL container=c1 interface=eth0 network=cbr0 ")
            && del.ends_with("ms ok"),
        "{del}"
    );
    assert!(
        check.ends_with(r#"ms error 7 "Required prevResult missing""#),
        "{check}"
    );
    // A log that can't be written is no failure.
    conf["logFile"] = "/nowhere/log".into();
    call("DEL", &conf).make().silent_success();
}
