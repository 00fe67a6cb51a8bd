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
            error.starts_with("Invalid subnet-lease-renew-margin option, out of acceptable range")
        );
    }
}
