//! Plugins that are not of this binary, as delegates and for addresses.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{fs, os::unix::fs::PermissionsExt};

use lab::{Host, Netns, address, talk};
use serde_json::{Value, json};

const RESULT: &str = r#"{"cniVersion":"1.1.0","ips":[{"address":"10.7.0.2/24","gateway":"10.7.0.1"}],"routes":[{"dst":"0.0.0.0/0"}]}"#;

/// Puts a plugin where the host's own are, which writes down its calls and prints `result` at an ADD. It
/// fails at the verb that the file `fail` names.
fn install(host: &Host, name: &str, result: &str) {
    let dir = host.path("");
    let dir = dir.display();
    let script = format!(
        "#!/bin/sh\nread -r conf\necho \"$CNI_COMMAND $CNI_CONTAINERID $CNI_IFNAME\" >> {dir}/calls\n\
         echo \"$conf\" > {dir}/conf\nfail=\nread -r fail < {dir}/fail\n\
         if [ \"$fail\" = $CNI_COMMAND ]; then echo '{{\"code\":101,\"msg\":\"no lease\",\"details\":\"x\"}}'; exit 1; fi\n\
         if [ $CNI_COMMAND = ADD ]; then echo '{result}'; fi\n"
    );
    let path = host.path(name);
    fs::write(&path, script).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(host.path("fail"), "\n").unwrap();
}

fn calls(host: &Host) -> String {
    let calls = fs::read_to_string(host.path("calls")).unwrap_or_default();
    fs::write(host.path("calls"), "").unwrap();
    calls.replace(" c1 eth0\n", " ")
}

fn call(host: &Host, verb: &str, container: &Netns, conf: &Value) -> lab::Outcome {
    let mut conf = conf.clone();
    conf["cni.dev/valid-attachments"] = json!([]);
    let call = host.call("flannel", verb).netns(container);
    call.conf(&conf).make()
}

#[test]
fn addresses_of_another_plugin_are_used_and_every_verb_reaches_it() {
    let host = Host::new();
    install(&host, "lease", RESULT);
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    conf["ipam"] = json!({"type": "lease"});
    let result = call(&host, "ADD", &container, &conf).result();
    talk(&host.netns, &container, address(&result, 0));
    let handed: Value =
        serde_json::from_str(&fs::read_to_string(host.path("conf")).unwrap()).unwrap();
    assert_eq!(handed["ipam"]["type"], "lease");
    assert_eq!(
        (&handed["name"], &handed["cniVersion"]),
        (&json!("cbr0"), &json!("1.1.0"))
    );
    conf["prevResult"] = result;
    for verb in ["CHECK", "STATUS", "DEL"] {
        call(&host, verb, &container, &conf).silent_success();
    }
    assert_eq!(calls(&host), "ADD CHECK STATUS DEL ");
    call(&host, "GC", &container, &conf).silent_success();
    assert_eq!(calls(&host), "GC ");
    assert_eq!(host.netns.links(), ["cni0", "lo"]);
}

#[test]
fn its_errors_are_passed_on_and_a_failed_add_is_undone() {
    let host = Host::new();
    install(&host, "lease", RESULT);
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    conf["ipam"] = json!({"type": "lease"});
    let error = (101, "no lease".to_owned(), "x".to_owned());
    for verb in ["ADD", "STATUS", "DEL"] {
        fs::write(host.path("fail"), format!("{verb}\n")).unwrap();
        assert_eq!(call(&host, verb, &container, &conf).error(), error);
    }
    assert_eq!(calls(&host), "ADD DEL STATUS DEL ");
    assert_eq!(host.netns.links(), ["lo"]);
    assert!(host.files("flannel.d").is_empty());
    install(&host, "lease", r#"{"cniVersion":"1.1.0"}"#);
    let (_, message, _) = call(&host, "ADD", &container, &conf).error();
    assert_eq!(message, "IPAM plugin returned missing IP config");
    assert_eq!(calls(&host), "ADD DEL ");
}

#[test]
fn flannel_delegates_to_whom_it_is_told() {
    let host = Host::new();
    install(&host, "ptp", RESULT);
    let container = Netns::new();
    let mut conf = host.flannel_conf();
    conf["delegate"] = json!({"type": "ptp"});
    let result = call(&host, "ADD", &container, &conf).result();
    assert_eq!(result["ips"][0]["address"], "10.7.0.2/24");
    assert_eq!(host.files("flannel.d"), ["c1"]);
    conf["prevResult"] = result;
    for verb in ["CHECK", "DEL"] {
        call(&host, verb, &container, &conf).silent_success();
    }
    assert_eq!(calls(&host), "ADD CHECK DEL ");
    assert!(host.files("flannel.d").is_empty());
}

#[test]
fn a_plugin_that_is_nowhere_is_told_and_nothing_is_made() {
    let host = Host::new();
    let container = Netns::new();
    for (key, conf) in [("delegate", "delegate"), ("ipam", "ipam")] {
        let mut all = host.flannel_conf();
        all[conf] = json!({"type": "no-such"});
        let (code, message, _) = call(&host, "ADD", &container, &all).error();
        assert_eq!(code, 999, "{key}");
        let start = r#"failed to find plugin "no-such" in path ["#;
        assert!(message.starts_with(start), "{message}");
    }
    assert_eq!(host.netns.links(), ["lo"]);
    assert!(host.files("flannel.d").is_empty());
}
