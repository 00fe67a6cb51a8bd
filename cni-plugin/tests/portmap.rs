//! hostPorts, with real packets: from outside, from the node, from its loopback address, and from the
//! container itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod lab;

use std::{
    io::{Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    process::Command,
    thread,
    time::Duration,
};

use kernel::{
    conntrack,
    netns::Namespace,
    nft::{self, ObservedTable},
    route::{Address, Change, LinkSettings},
};
use lab::{Host, Netns, Outcome, address};
use serde_json::{Value, json};
use socket2::{Domain, Protocol, Socket, Type};
use std::os::unix::fs::symlink;

const BACKENDS: [&str; 2] = ["iptables", "nftables"];
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Long enough for several SYNs: the bridge may still be making sure that its IPv6 address is its own.
const TIMEOUT: Duration = Duration::from_secs(30);
/// The node's addresses, and the client's, on the link between them.
const NODE: [&str; 2] = ["192.0.2.1/24", "2001:db8::1/64"];
const CLIENT: [&str; 2] = ["192.0.2.2/24", "2001:db8::2/64"];

/// A node with a client outside.
struct Site {
    host: Host,
    client: Netns,
    /// Where the node's programs are.
    path: String,
}

/// A container that answers on port 80 by TCP and by UDP with where a call came from.
struct Server {
    netns: Netns,
    id: &'static str,
    result: Value,
}

// === impl Site ===

impl Site {
    fn new() -> Self {
        let (host, client) = (Host::new(), Netns::new());
        host.netns.add_veth("uplink", &client, "eth0");
        for netns in [&host.netns, &client] {
            netns.run(|| kernel::sysctl::set("net/ipv6/conf/all/accept_dad", "0").unwrap());
        }
        set_up(&host.netns, "lo", &[]);
        set_up(&host.netns, "uplink", &NODE);
        set_up(&client, "eth0", &CLIENT);
        let path = PATH.to_owned();
        Self { host, client, path }
    }

    /// A node with the iptables that know nothing of nftables.
    fn with_legacy_iptables() -> Self {
        let mut site = Self::new();
        let programs = site.host.path("legacy");
        std::fs::create_dir(&programs).unwrap();
        for family in ["iptables", "ip6tables"] {
            for infix in ["", "-save", "-restore"] {
                let program = format!("/usr/sbin/{family}-legacy{infix}");
                symlink(program, programs.join(format!("{family}{infix}"))).unwrap();
            }
        }
        site.path = format!("{}:{PATH}", programs.display());
        site
    }

    /// Runs a program of the node there; answers with what it prints.
    fn run(&self, command: &str) -> String {
        let mut words = command.split(' ');
        let program = words.next().unwrap();
        let run = || {
            let mut run = Command::new("/usr/bin/env");
            run.env("PATH", &self.path).arg(program).args(words);
            run.output().unwrap()
        };
        let output = self.host.netns.run(run);
        assert!(output.status.success(), "{command}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn conf(&self, backend: &str, mappings: &Value) -> Value {
        json!({
            "name": "cbr0", "cniVersion": "1.1.0", "type": "portmap", "backend": backend,
            "runtimeConfig": {"portMappings": mappings},
        })
    }

    /// Attaches a container that answers.
    fn server(&self, id: &'static str) -> Server {
        let netns = Netns::new();
        let mut conf = self.host.flannel_conf();
        conf["delegate"] = json!({"hairpinMode": true, "isDefaultGateway": true});
        let result = self.host.add(&conf, id, &netns);
        serve(&netns);
        Server { netns, id, result }
    }

    fn call(&self, verb: &str, server: &Server, conf: &Value) -> Outcome {
        let mut conf = conf.clone();
        conf["prevResult"] = server.result.clone();
        let call = self
            .host
            .call("portmap", verb)
            .env("PATH", &self.path)
            .id(server.id);
        call.netns(&server.netns).conf(&conf).make()
    }

    /// DEL as a runtime makes it that has lost everything.
    fn del_without_result(&self, server: &Server, conf: &Value) -> Outcome {
        let call = self.host.call("portmap", "DEL").env("PATH", PATH);
        call.id(server.id).conf(conf).make()
    }

    /// The rules of both families and both backends.
    fn rules(&self) -> String {
        let commands = [
            "iptables-save -t nat",
            "ip6tables-save -t nat",
            "nft list ruleset",
        ];
        let text = commands.map(|command| self.run(command)).concat();
        // Comments say when it was printed.
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        lines.collect::<Vec<_>>().join("\n")
    }
}

fn set_up(netns: &Netns, name: &str, addresses: &[&str]) {
    let index = netns.link(name).unwrap().index;
    let settings = LinkSettings {
        up: Some(true),
        ..LinkSettings::default()
    };
    let mut changes = vec![Change::SetLink(index, settings)];
    changes.extend(addresses.iter().map(|address| {
        Change::ReplaceAddress(Address {
            interface: index,
            address: address.parse().unwrap(),
            link_local: false,
            permanent: true,
            no_dad: true,
        })
    }));
    netns.handle().apply(&changes).unwrap();
}

/// Answers in the background, for as long as the test runs.
fn serve(netns: &Netns) {
    let (tcp, udp) = netns.run(|| {
        (
            TcpListener::bind("[::]:80").unwrap(),
            UdpSocket::bind("[::]:80").unwrap(),
        )
    });
    thread::spawn(move || {
        for stream in tcp.incoming() {
            let mut stream = stream.unwrap();
            let from = stream.peer_addr().unwrap().ip().to_canonical();
            stream.write_all(from.to_string().as_bytes()).unwrap();
        }
    });
    thread::spawn(move || {
        let mut buffer = [0; 64];
        while let Ok((_, from)) = udp.recv_from(&mut buffer) {
            let text = from.ip().to_canonical().to_string();
            udp.send_to(text.as_bytes(), from).unwrap();
        }
    });
}

/// Whom the server sees calling, if it answers.
fn ask_tcp(from: &Netns, to: SocketAddr) -> Option<IpAddr> {
    let mut stream = from.run(|| TcpStream::connect_timeout(&to, TIMEOUT)).ok()?;
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut heard = String::new();
    stream.read_to_string(&mut heard).ok()?;
    heard.parse().ok()
}

fn ask_udp(socket: &UdpSocket, to: SocketAddr) -> Option<IpAddr> {
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    socket.send_to(b"?", to).unwrap();
    let mut buffer = [0; 64];
    let (len, _) = socket.recv_from(&mut buffer).ok()?;
    std::str::from_utf8(&buffer[..len]).unwrap().parse().ok()
}

fn udp_socket(from: &Netns, to: SocketAddr) -> UdpSocket {
    let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    from.run(|| UdpSocket::bind(any).unwrap())
}

fn ip(cidr: &str) -> IpAddr {
    cidr.split('/').next().unwrap().parse().unwrap()
}

fn web() -> Value {
    json!([
        {"hostPort": 8080, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 8080, "containerPort": 80, "protocol": "udp"},
    ])
}

#[test]
fn a_host_port_is_reached_from_everywhere() {
    for backend in BACKENDS {
        is_reached_from_everywhere(&Site::new(), backend);
    }
}

#[test]
fn the_older_iptables_serve_as_well_and_the_newer_ones_rules_stay() {
    let site = Site::with_legacy_iptables();
    site.run("iptables-nft -t nat -A POSTROUTING -s 198.51.100.1/32 -j MASQUERADE");
    site.run("iptables-legacy -t nat -A POSTROUTING -s 198.51.100.2/32 -j MASQUERADE");
    is_reached_from_everywhere(&site, "iptables");
    for (program, address) in [
        ("iptables-nft", "198.51.100.1"),
        ("iptables-legacy", "198.51.100.2"),
    ] {
        let rules = site.run(&format!("{program}-save -t nat"));
        assert!(rules.contains(address), "{program}: {rules}");
        assert!(!rules.contains("8080"), "{program}: {rules}");
    }
}

fn is_reached_from_everywhere(site: &Site, backend: &str) {
    let server = site.server("c1");
    let conf = site.conf(backend, &web());
    let result = site.call("ADD", &server, &conf).result();
    assert_eq!(result, server.result);
    site.call("CHECK", &server, &conf).silent_success();
    for (family, (node, client)) in NODE.iter().zip(CLIENT).enumerate() {
        let to = SocketAddr::new(ip(node), 8080);
        for (from, seen) in [
            (&site.client, Some(ip(client))),
            (&site.host.netns, None),
            (&server.netns, None),
        ] {
            let tcp = ask_tcp(from, to);
            let udp = ask_udp(&udp_socket(from, to), to);
            assert!(
                tcp.is_some() && udp.is_some(),
                "{backend} {to} {tcp:?} {udp:?}\n{}",
                site.rules()
            );
            if seen.is_some() {
                assert_eq!(
                    (tcp, udp),
                    (seen, seen),
                    "{backend}: the client is seen as it is"
                );
            }
        }
        if family == 0 {
            let to = "127.0.0.1:8080".parse().unwrap();
            let seen = ask_tcp(&site.host.netns, to);
            assert_eq!(seen, Some("10.1.17.1".parse().unwrap()), "{backend}");
        }
    }
    site.call("DEL", &server, &conf).silent_success();
    let text = site.rules();
    assert!(
        !text.contains("8080") && !text.contains("c1"),
        "{backend}: {text}"
    );
    site.del_without_result(&server, &conf).silent_success();
}

#[test]
fn a_port_that_is_held_is_refused_by_name() {
    for backend in BACKENDS {
        let site = Site::new();
        let (one, two) = (site.server("c1"), site.server("c2"));
        let mapping = |host_ip: &str, protocol: &str| json!([{"hostPort": 8080, "containerPort": 80, "protocol": protocol, "hostIP": host_ip}]);
        let first = site.conf(backend, &mapping("192.0.2.1", "tcp"));
        site.call("ADD", &one, &first).result();
        let before = site.rules();
        for host_ip in ["", "0.0.0.0", "192.0.2.1"] {
            let conf = site.conf(backend, &mapping(host_ip, "tcp"));
            let (code, message, _) = site.call("ADD", &two, &conf).error();
            let want = format!(
                "host port 8080/tcp is held by container c1, which it leads to at {}:80",
                address(&one.result, 0)
            );
            assert!(
                code == 7 && message.starts_with(&want),
                "{backend}: {message}"
            );
        }
        assert_eq!(counts(&site.rules()), counts(&before), "{backend}");
        for (host_ip, protocol) in [("127.0.0.1", "tcp"), ("", "udp")] {
            let conf = site.conf(backend, &mapping(host_ip, protocol));
            site.call("ADD", &two, &conf).result();
            site.del_without_result(&two, &conf).silent_success();
        }
        let to = SocketAddr::new(ip(NODE[0]), 8080);
        assert!(
            ask_tcp(&site.client, to).is_some(),
            "{backend}: the first one is still there"
        );
        site.call("CHECK", &one, &first).silent_success();
    }
}

#[test]
fn who_is_masqueraded_is_for_the_configuration_to_say() {
    for backend in BACKENDS {
        for (keys, seen, rule) in [
            (
                json!({"masqAll": true}),
                ["10.1.17.1", "fd00:0:0:17::1"],
                true,
            ),
            (
                json!({"snat": false}),
                CLIENT.map(|it| it.split('/').next().unwrap()),
                false,
            ),
        ] {
            let site = Site::new();
            let server = site.server("c1");
            let mut conf = site.conf(backend, &web());
            conf.as_object_mut()
                .unwrap()
                .extend(keys.as_object().unwrap().clone());
            site.call("ADD", &server, &conf).result();
            for (node, seen) in NODE.iter().zip(seen) {
                let to = SocketAddr::new(ip(node), 8080);
                let seen: Option<IpAddr> = seen.parse().ok();
                assert_eq!(ask_tcp(&site.client, to), seen, "{backend} {keys}");
                let udp = ask_udp(&udp_socket(&site.client, to), to);
                assert_eq!(udp, seen, "{backend} {keys}");
            }
            let rules = site.rules().to_lowercase();
            assert_eq!(
                rules.contains("masquerade"),
                rule,
                "{backend} {keys}: {rules}"
            );
            site.call("CHECK", &server, &conf).silent_success();
            site.call("DEL", &server, &conf).silent_success();
            assert!(!site.rules().contains("8080"), "{backend} {keys}");
        }
    }
}

#[test]
fn conditions_are_for_their_family_alone() {
    let [v4, v6] = CLIENT.map(|it| it.split('/').next().unwrap());
    let words = |backend: &str, family: &str, address: &str| match backend {
        "iptables" => json!(["!", "-s", address]),
        _ => json!([family, "saddr", "!=", address]),
    };
    for backend in BACKENDS {
        for (key, condition, reached) in [
            ("conditionsV4", words(backend, "ip", v4), [false, true]),
            ("conditionsV6", words(backend, "ip6", v6), [true, false]),
        ] {
            let site = Site::new();
            let server = site.server("c1");
            let mut conf = site.conf(backend, &web());
            conf[key] = condition;
            site.call("ADD", &server, &conf).result();
            let got = NODE.map(|node| {
                let to = SocketAddr::new(ip(node), 8080);
                ask_tcp(&site.client, to).is_some()
            });
            assert_eq!(got, reached, "{backend} {key}: {}", site.rules());
            site.call("CHECK", &server, &conf).silent_success();
        }
    }
}

#[test]
fn somebody_elses_chain_can_mark_what_is_to_be_masqueraded() {
    let site = Site::new();
    for program in ["iptables", "ip6tables"] {
        for rule in [
            "-N KUBE-MARK-MASQ",
            "-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000",
            "-A POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
        ] {
            site.run(&format!("{program} -t nat {rule}"));
        }
    }
    let server = site.server("c1");
    let mut conf = site.conf("iptables", &web());
    conf["externalSetMarkChain"] = "KUBE-MARK-MASQ".into();
    site.call("ADD", &server, &conf).result();
    for node in NODE {
        let to = SocketAddr::new(ip(node), 8080);
        // Without masquerading the container would answer itself directly.
        assert!(ask_tcp(&server.netns, to).is_some(), "{to}");
    }
    let rules = site.rules();
    assert!(!rules.contains("CNI-HOSTPORT-SETMARK"), "{rules}");
    site.call("CHECK", &server, &conf).silent_success();
    site.call("DEL", &server, &conf).silent_success();
    let rules = site.rules();
    assert!(
        rules.contains("KUBE-MARK-MASQ") && !rules.contains("CNI-DN-"),
        "{rules}"
    );
}

/// An INIT of SCTP (RFC 9260, 3.3.2): there need be no SCTP in the kernel for translating its ports.
fn sctp_init(to_port: u16) -> Vec<u8> {
    let mut packet = vec![0; 32];
    packet[..2].copy_from_slice(&40_000u16.to_be_bytes());
    packet[2..4].copy_from_slice(&to_port.to_be_bytes());
    // The chunk's kind, length, initiate tag, window, streams both ways.
    packet[12] = 1;
    packet[15] = 20;
    packet[19] = 1;
    packet[22] = 0xff;
    packet[25] = 1;
    packet[27] = 1;
    let mut crc = u32::MAX;
    for byte in &packet {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            // CRC32c, reflected.
            crc = if crc & 1 == 1 {
                crc >> 1 ^ 0x82f6_3b78
            } else {
                crc >> 1
            };
        }
    }
    packet[8..12].copy_from_slice(&(!crc).to_le_bytes());
    packet
}

#[test]
fn sctp_packets_are_led_to_the_containers_port() {
    for backend in BACKENDS {
        let site = Site::new();
        let server = site.server("c1");
        let mapping = json!([{"hostPort": 8080, "containerPort": 80, "protocol": "sctp"}]);
        let conf = site.conf(backend, &mapping);
        site.call("ADD", &server, &conf).result();
        for (node, client) in NODE.iter().zip(CLIENT) {
            let to = SocketAddr::new(ip(node), 0);
            let raw = |netns: &Netns| {
                let open = || Socket::new(Domain::for_address(to), Type::RAW, Some(Protocol::SCTP));
                let socket = netns.run(|| open().unwrap());
                socket.set_read_timeout(Some(TIMEOUT)).unwrap();
                socket
            };
            let (mut inside, outside) = (raw(&server.netns), raw(&site.client));
            outside.send_to(&sctp_init(8080), &to.into()).unwrap();
            let mut buffer = [0; 128];
            let len = inside.read(&mut buffer).unwrap();
            // An IPv4 socket shows the header as well.
            let header = if to.is_ipv4() { 20 } else { 0 };
            let port = u16::from_be_bytes([buffer[header + 2], buffer[header + 3]]);
            assert_eq!((len - header, port), (32, 80), "{backend} {client}");
        }
        site.call("CHECK", &server, &conf).silent_success();
        site.call("DEL", &server, &conf).silent_success();
        assert!(!site.rules().contains("8080"), "{backend}");
    }
}

/// How many rules there are with a port.
fn counts(rules: &str) -> usize {
    rules.lines().filter(|line| line.contains("dport")).count()
}

#[test]
fn check_names_the_rule_that_is_missing() {
    for (backend, damage, named) in [
        (
            "iptables",
            "iptables -t nat -D PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
            "iptables -t nat -A PREROUTING -m addrtype --dst-type LOCAL -j CNI-HOSTPORT-DNAT",
        ),
        (
            "iptables",
            "iptables -t nat -F CNI-HOSTPORT-DNAT",
            "iptables -t nat -A CNI-HOSTPORT-DNAT -p tcp",
        ),
        (
            "nftables",
            "nft flush chain ip cni_hostport hostports",
            "nft add rule ip cni_hostport hostports",
        ),
        (
            "nftables",
            "nft delete table ip6 cni_hostport",
            "nft add rule ip6 cni_hostport",
        ),
    ] {
        let site = Site::new();
        let server = site.server("c1");
        let conf = site.conf(backend, &web());
        site.call("ADD", &server, &conf).result();
        let words: Vec<&str> = damage.split(' ').collect();
        let damaged = site.host.netns.run(|| {
            Command::new(words[0])
                .env("PATH", PATH)
                .args(&words[1..])
                .status()
                .unwrap()
        });
        assert!(damaged.success());
        let (_, message, _) = site.call("CHECK", &server, &conf).error();
        let want = format!("hostPort rule of container c1 is missing: {named}");
        assert!(message.starts_with(&want), "{message}");
    }
}

#[test]
fn gc_removes_the_rules_of_those_that_are_not_listed() {
    for backend in BACKENDS {
        let site = Site::new();
        let (one, two) = (site.server("c1"), site.server("c2"));
        let mapping =
            |port: u16| json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let second = site.conf(backend, &mapping(8082));
        site.call("ADD", &one, &site.conf(backend, &mapping(8081)))
            .result();
        site.call("ADD", &two, &second).result();
        let mut conf = site.conf(backend, &json!([]));
        conf["cni.dev/valid-attachments"] = json!([{"containerID": "c2", "ifname": "eth0"}]);
        let gc = |name: &str| {
            let mut conf = conf.clone();
            conf["name"] = name.into();
            let call = site.host.call("portmap", "GC").env("PATH", PATH);
            call.conf(&conf).make().silent_success();
        };
        gc("another");
        assert!(site.rules().contains("8081"), "{backend}");
        gc("cbr0");
        assert!(!site.rules().contains("8081"), "{backend}");
        site.call("CHECK", &two, &second).silent_success();
    }
}

#[test]
fn known_udp_flows_go_to_the_new_container() {
    for backend in BACKENDS {
        let site = Site::new();
        let server = site.server("c1");
        let conf = site.conf(backend, &web());
        let to = SocketAddr::new(ip(NODE[0]), 8080);
        let socket = udp_socket(&site.client, to);
        // Nobody is there yet: the flow is known from now on, without translation.
        let namespace = Namespace::open(site.host.netns.path()).unwrap();
        site.host.netns.run(|| {
            // Conntrack looks at packets only where something wants it to.
            let status = Command::new("iptables")
                .env("PATH", PATH)
                .args(["-A", "INPUT", "-m", "conntrack", "--ctstate", "INVALID"])
                .status();
            assert!(status.unwrap().success());
        });
        socket.send_to(b"?", to).unwrap();
        let mut flows = conntrack::Handle::open_in(&namespace).unwrap();
        let known = flows
            .flows(kernel::Family::V4, conntrack::Protocol::Udp)
            .unwrap();
        assert!(
            known.iter().any(|flow| flow.original.destination == to),
            "{known:?}"
        );
        site.call("ADD", &server, &conf).result();
        assert_eq!(ask_udp(&socket, to), Some(ip(CLIENT[0])), "{backend}");
    }
}

#[test]
fn del_removes_all_of_a_container_though_the_runtime_forgot_what_the_add_was_told() {
    for (add, del) in [
        ("iptables", "iptables"),
        ("nftables", "nftables"),
        ("iptables", "nftables"),
        ("nftables", "iptables"),
    ] {
        let site = Site::new();
        let (one, two) = (site.server("c1"), site.server("c2"));
        let mapping =
            |port: u16| json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let second = site.conf(add, &mapping(8082));
        site.call("ADD", &one, &site.conf(add, &mapping(8081)))
            .result();
        site.call("ADD", &two, &second).result();
        let forgotten = site.conf(del, &json!([]));
        site.del_without_result(&one, &forgotten).silent_success();
        let rules = site.rules();
        assert!(!rules.contains("8081"), "{add} {del}: {rules}");
        site.call("CHECK", &two, &second).silent_success();
        site.del_without_result(&one, &forgotten).silent_success();
    }
}

#[test]
fn two_interfaces_of_a_container_have_ports_of_their_own() {
    for backend in BACKENDS {
        let site = Site::new();
        let server = site.server("c1");
        let flannel = site.host.flannel_conf();
        let call = site.host.call("flannel", "ADD").netns(&server.netns);
        let call = call.env("CNI_IFNAME", "eth1").conf(&flannel);
        let result = call.make().result();
        let mapping =
            |port: u16| json!([{"hostPort": port, "containerPort": 80, "protocol": "tcp"}]);
        let call = |verb: &str, if_name: &str, port: u16, result: &Value| {
            let mut conf = site.conf(backend, &mapping(port));
            conf["prevResult"] = result.clone();
            let call = site.host.call("portmap", verb).env("PATH", PATH);
            let call = call.env("CNI_IFNAME", if_name).netns(&server.netns);
            call.conf(&conf).make()
        };
        call("ADD", "eth0", 8081, &server.result).result();
        let (code, message, _) = call("ADD", "eth1", 8081, &result).error();
        let want = format!(
            "host port 8081/tcp is held by container c1, which it leads to at {}:80",
            address(&server.result, 0)
        );
        assert!(
            code == 7 && message.starts_with(&want),
            "{backend}: {message}"
        );
        // The same once more is no other.
        call("ADD", "eth0", 8081, &server.result).result();
        call("ADD", "eth1", 8082, &result).result();
        call("CHECK", "eth0", 8081, &server.result).silent_success();
        call("CHECK", "eth1", 8082, &result).silent_success();
        call("DEL", "eth0", 8081, &server.result).silent_success();
        assert!(!site.rules().contains("8081"), "{backend}");
        call("CHECK", "eth1", 8082, &result).silent_success();
        call("DEL", "eth1", 8082, &result).silent_success();
        assert!(!site.rules().contains("8082"), "{backend}");
    }
}

#[test]
fn what_is_not_chained_or_wrong_is_refused() {
    let site = Site::new();
    let netns = Netns::new();
    let conf = site.conf("iptables", &web());
    let call = |verb: &str, conf: &Value| {
        let call = site.host.call("portmap", verb).env("PATH", PATH);
        call.netns(&netns).conf(conf).make().error().1
    };
    assert_eq!(call("ADD", &conf), "must be called as chained plugin");
    assert_eq!(call("CHECK", &conf), "Required prevResult missing");
    let mut zero = conf.clone();
    zero["runtimeConfig"]["portMappings"][0]["hostPort"] = 0.into();
    assert_eq!(call("ADD", &zero), "Invalid host port number: 0");
    assert_eq!(call("DEL", &zero), "Invalid host port number: 0");
}

#[test]
fn nothing_is_made_where_no_port_is_asked_for() {
    for backend in BACKENDS {
        let site = Site::new();
        let server = site.server("c1");
        let conf = site.conf(backend, &json!([]));
        let before = site.rules();
        assert_eq!(site.call("ADD", &server, &conf).result(), server.result);
        assert_eq!(site.rules(), before);
        site.call("DEL", &server, &conf).silent_success();
    }
}

#[test]
fn nft_lists_the_rules_as_the_reference_writes_them() {
    let site = Site::new();
    let server = site.server("c1");
    let mapping =
        json!([{"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": "192.0.2.1"}]);
    let conf = site.conf("nftables", &mapping);
    site.call("ADD", &server, &conf).result();
    let rules = site.rules();
    let container = address(&server.result, 0);
    for line in [
        "type nat hook prerouting priority dstnat; policy accept;",
        "fib daddr type local jump hostports_all",
        "jump hostip_hostports",
        "jump hostports",
        &format!("ip daddr 192.0.2.1 tcp dport 8080 dnat to {container}:80 comment \"c1\""),
        &format!("ip saddr 127.0.0.1 ip daddr {container} masquerade comment \"c1\""),
        &format!("ip saddr {container} ip daddr {container} masquerade comment \"c1\""),
    ] {
        assert!(rules.contains(line), "{line}:\n{rules}");
    }
    let namespace = Namespace::open(site.host.netns.path()).unwrap();
    let mut handle = nft::Handle::open_in(&namespace).unwrap();
    let table: Option<ObservedTable> = handle.read(kernel::Family::V6, "cni_hostport").unwrap();
    // The hostIP is no IPv6 address.
    assert_eq!(table.unwrap().chains["hostports"].rules.len(), 0);
}
