use proptest::prelude::*;

use super::*;
use crate::model::{IpipConf, VxlanConf, WireguardConf, WireguardMode};

fn parse(text: &str) -> Result<NetConf, String> {
    NetConf::parse(text.as_bytes()).map_err(|error| error.to_string())
}

fn vxlan(text: &str) -> VxlanConf {
    match parse(text).unwrap().backend {
        Backend::Vxlan(conf) => conf,
        other => panic!("{other:?}"),
    }
}

#[test]
fn defaults_are_flannels() {
    let conf = parse(r#"{"Network":"10.3.7.0/16","Backend":{"Type":"vxlan"}}"#).unwrap();
    let pool = conf.pools.get(Family::V4).unwrap();
    assert_eq!(pool.network(), "10.3.0.0/16".parse().unwrap());
    assert_eq!(pool.subnet(0), Some("10.3.1.0/24".parse().unwrap()));
    assert_eq!(conf.pools.get(Family::V6), None);
    let vni = 1.try_into().unwrap();
    let backend = VxlanConf {
        vni,
        port: 8472,
        mtu: None,
        gbp: false,
        learning: false,
        direct_routing: false,
    };
    assert_eq!(conf.backend, Backend::Vxlan(backend));
}

#[test]
fn keys_match_in_any_case_and_unknown_ones_are_ignored() {
    let conf = vxlan(
        r#"{"network":"10.3.0.0/16","x":1,"BACKEND":{"TYPE":"VXLAN","vni":9,"PORT":4789,"Mtu":1400,"gbp":true,"Learning":true,"directrouting":true,"y":[]}}"#,
    );
    let vni = 9.try_into().unwrap();
    assert_eq!(
        conf,
        VxlanConf {
            vni,
            port: 4789,
            mtu: Some(1400),
            gbp: true,
            learning: true,
            direct_routing: true,
        }
    );
    assert_eq!(
        conf.device_name(Family::V6).unwrap().as_str(),
        "flannel-v6.9"
    );
}

#[test]
fn other_backends_are_known_by_flannels_names() {
    let ipip = IpipConf {
        direct_routing: false,
    };
    for (name, backend) in [
        ("Host-GW", Backend::HostGw),
        ("alloc", Backend::Alloc),
        ("ipip", Backend::Ipip(ipip)),
    ] {
        let text = format!(r#"{{"Network":"10.3.0.0/16","Backend":{{"Type":"{name}"}}}}"#);
        assert_eq!(parse(&text).unwrap().backend, backend);
    }
}

#[test]
fn wireguard_has_flannels_keys_and_defaults() {
    let wireguard = |keys: &str| {
        let backend = format!(r#"{{"Type":"wireguard"{keys}}}"#);
        parse(&format!(
            r#"{{"Network":"10.3.0.0/16","Backend":{backend}}}"#
        ))
        .map(|conf| conf.backend)
    };
    let defaults = WireguardConf {
        psk: None,
        listen_port: 51820,
        listen_port_v6: 51821,
        mtu: None,
        mode: WireguardMode::Separate,
        keepalive: 0,
    };
    assert_eq!(wireguard(""), Ok(Backend::Wireguard(defaults)));
    let psk = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
    let keys = format!(
        r#","PSK":"{psk}","ListenPort":1,"ListenPortV6":2,"MTU":1400,"Mode":"ipv6","PersistentKeepaliveInterval":25"#
    );
    let all = WireguardConf {
        psk: Some(psk.parse().unwrap()),
        listen_port: 1,
        listen_port_v6: 2,
        mtu: Some(1400),
        mode: WireguardMode::Over(Family::V6),
        keepalive: 25,
    };
    assert_eq!(wireguard(&keys), Ok(Backend::Wireguard(all)));
    for (keys, error) in [
        (r#","PSK":"secret""#, "Backend.PSK: not a WireGuard key"),
        (r#","ListenPort":0"#, "Backend.ListenPort is 0: want 1 to"),
        (r#","Mode":"both""#, "Backend.Mode is \"both\": want \"sep"),
    ] {
        let found = wireguard(keys).unwrap_err();
        assert!(found.starts_with(error), "{found}");
        assert!(!found.contains("secret"), "{found}");
    }
}

#[test]
fn dual_stack_has_two_pools() {
    let conf = parse(
        r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#,
    )
    .unwrap();
    let pool = conf.pools.get(Family::V6).unwrap();
    assert_eq!(pool.subnet(0), Some("fc00:0:0:1::/64".parse().unwrap()));
}

#[test]
fn ipv6_can_be_alone_whatever_is_said_of_ipv4() {
    let conf = parse(
        r#"{"Network":"10.3.0.0/16","EnableIPv4":false,"EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"vxlan"}}"#,
    )
    .unwrap();
    let families: Vec<_> = conf.pools.iter().map(|(family, _)| family).collect();
    assert_eq!(families, [Family::V6]);
}

#[test]
fn errors_name_the_key() {
    for (text, error) in [
        (
            "{}",
            "please define a correct Network parameter in the flannel config",
        ),
        (
            r#"{"Network":"10.3.0.0/16","EnableIPv6":true}"#,
            "please define a correct IPv6Network parameter in the flannel config",
        ),
        (r#"{"Network":"10.3.0.0/16"}"#, "Backend.Type is missing"),
        (
            r#"{"Network":"10.3.0.0/16","Backend":{}}"#,
            "Backend.Type is missing",
        ),
        (
            r#"{"Network":"10.3.0.0/16","Backend":{"Type":"UDP"}}"#,
            "Backend.Type is \"UDP\"",
        ),
        (
            r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","VNI":16777216}}"#,
            "Backend.VNI: VNI 16777216 is out of range",
        ),
        (
            r#"{"Network":"10.3.0.0/16","Backend":{"Type":"vxlan","VNI":16777215}}"#,
            "Backend.VNI is too large for a device of its name",
        ),
        (
            r#"{"Network":"10.3.0.0/16","EnableIPv6":true,"IPv6Network":"fc00::/48","Backend":{"Type":"ipip"}}"#,
            "Backend.Type ipip carries IPv4 alone",
        ),
        (
            r#"{"EnableIPv4":false}"#,
            "EnableIPv4 and EnableIPv6 are both false",
        ),
        (
            r#"{"Network":"10.3.0.0/33"}"#,
            "not a network configuration in JSON: ",
        ),
        (
            r#"{"Network":"10.3.0.0/16","SubnetLen":"24"}"#,
            "not a network configuration in JSON: ",
        ),
        ("", "not a network configuration in JSON: "),
    ] {
        let found = parse(text).unwrap_err();
        assert!(found.starts_with(error), "{text}: {found}");
    }
}

proptest! {
    #[test]
    fn never_panics(
        text in r#"(\{("(Network|SubnetLen|SubnetMin|EnableIPv6|IPv6Network|IPv6SubnetMin|Backend)":(null|-?[0-9]{1,4}|true|"[0-9a-f.:/]{0,14}"|"10\.[0-9]\.0\.0/[0-9]{1,2}"|"fc00::/[0-9]{1,3}"|\{"Type":"vxlan"\}),?){0,5}\})|.{0,40}"#,
    ) {
        drop(parse(&text));
    }
}

#[test]
fn every_key_is_in_the_reference() {
    reference::every_key_is_documented("net-conf.json", &reference::keys::<Wire>());
}
