//! Virtual servers against the kernel, where it has them; `tests/debian-kernel/run.sh` runs this under one
//! that has.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::net::SocketAddr;

use kernel::{
    Family,
    ipvs::{
        CannotOpen, Change, Fake, Flags, Handle, Protocol, RealServer, Timeouts, VirtualAddress,
        VirtualServer,
    },
};
use namespace::TestNamespace;

/// The way into the kernel, and its namespace; `None`, with the reason told, where there is no IPVS.
fn open(test: &str) -> Option<(TestNamespace, Handle)> {
    let node = TestNamespace::new(test);
    match Handle::open_in(&node.namespace) {
        Ok(handle) => {
            println!("IPVS: found");
            // Without any address of its own, the kernel takes none for that of a real server.
            node.run("ip", &["link", "set", "lo", "up"], "");
            Some((node, handle))
        }
        Err(CannotOpen::NotInKernel(error)) => {
            let error = CannotOpen::NotInKernel(error).to_string();
            println!("skipped: {error}");
            assert!(error.starts_with("IPVS is not in this kernel"), "{error}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

fn server(protocol: Protocol, socket: &str, scheduler: &str) -> VirtualServer {
    let socket: SocketAddr = socket.parse().unwrap();
    VirtualServer {
        address: VirtualAddress { protocol, socket },
        scheduler: scheduler.into(),
        flags: Flags::default(),
        timeout: 0,
        client_prefix: Family::of(&socket.ip()).max_prefix(),
    }
}

fn real(socket: &str, weight: u32) -> RealServer {
    RealServer::translated(socket.parse().unwrap(), weight)
}

/// Servers of both families and all protocols, with and without flags.
fn servers() -> Vec<(VirtualServer, Vec<RealServer>)> {
    let sticky = VirtualServer {
        flags: Flags::PERSISTENT.with(Flags::HASH_FALLBACK),
        timeout: 10800,
        client_prefix: 24,
        ..server(Protocol::Udp, "10.96.0.10:53", "sh")
    };
    let sticky6 = VirtualServer {
        flags: Flags::PERSISTENT,
        timeout: 600,
        client_prefix: 64,
        ..server(Protocol::Tcp, "[fd00:96::1]:80", "wlc")
    };
    let limited = RealServer {
        upper_threshold: 9,
        lower_threshold: 3,
        ..real("[fd00:10::2]:8080", 5)
    };
    let three = ["10.244.0.2:80", "10.244.0.3:80", "10.244.1.2:8080"].map(|it| real(it, 1));
    vec![
        (server(Protocol::Tcp, "10.97.97.97:80", "rr"), three.into()),
        (server(Protocol::Sctp, "10.96.0.10:80", "rr"), vec![]),
        (sticky, vec![real("10.244.0.9:53", 1)]),
        (sticky6, vec![limited]),
    ]
}

fn additions() -> Vec<Change> {
    let servers = servers().into_iter().flat_map(|(server, reals)| {
        let address = server.address;
        let reals = reals
            .into_iter()
            .map(move |it| Change::AddReal(address, it));
        [Change::AddVirtual(server)].into_iter().chain(reals)
    });
    servers.collect()
}

#[test]
fn servers_read_back_as_they_were_set() {
    let Some((node, mut ipvs)) = open("ipvs-servers") else {
        return;
    };
    assert_eq!(ipvs.virtual_servers().unwrap(), []);
    ipvs.apply(&additions()).unwrap();
    assert_eq!(ipvs.sent(), 9);

    let mut found = ipvs.virtual_servers().unwrap();
    found.sort();
    let mut wanted = servers();
    wanted.sort();
    let virtuals: Vec<_> = wanted.iter().map(|(server, _)| server.clone()).collect();
    assert_eq!(found, virtuals);
    for (server, reals) in &mut wanted {
        let mut found = ipvs.real_servers(&server.address).unwrap();
        assert!(found.iter().all(|it| !it.is_in_use()), "{found:?}");
        found.sort();
        reals.sort();
        let found: Vec<_> = found.into_iter().map(|it| it.server).collect();
        assert_eq!(&found, reals, "{server}");
    }

    let listing = node.run("ipvsadm", &["-Sn"], "");
    for line in [
        "-A -t 10.97.97.97:80 -s rr",
        "-a -t 10.97.97.97:80 -r 10.244.0.2:80 -m -w 1",
        "-a -t 10.97.97.97:80 -r 10.244.1.2:8080 -m -w 1",
        "-A --sctp-service 10.96.0.10:80 -s rr",
        "-A -u 10.96.0.10:53 -s sh -p 10800 -M 255.255.255.0 -b sh-fallback",
        "-A -t [fd00:96::1]:80 -s wlc -p 600 -M 64",
        "-a -t [fd00:96::1]:80 -r [fd00:10::2]:8080 -m -w 5",
    ] {
        assert!(
            listing.lines().any(|it| it.trim() == line),
            "{line}\n{listing}"
        );
    }

    let web = servers()[0].0.clone();
    let changed = VirtualServer {
        scheduler: "lc".into(),
        flags: Flags::PERSISTENT,
        timeout: 60,
        ..web.clone()
    };
    ipvs.apply(&[
        Change::SetVirtual(changed.clone()),
        Change::SetReal(web.address, real("10.244.0.2:80", 0)),
        Change::DeleteReal(web.address, real("10.244.0.3:80", 1).socket),
        Change::DeleteVirtual(servers()[3].0.address),
    ])
    .unwrap();
    let found = ipvs.virtual_servers().unwrap();
    assert_eq!(found.len(), 3);
    assert!(found.contains(&changed), "{found:?}");
    let mut reals = ipvs.real_servers(&web.address).unwrap();
    reals.sort();
    let weights: Vec<_> = reals.iter().map(|it| it.server.weight).collect();
    assert_eq!(weights, [0, 1]);
}

#[test]
fn refusals_name_the_server_and_are_those_of_the_fake() {
    let Some((_node, mut ipvs)) = open("ipvs-refusals") else {
        return;
    };
    let mut fake = Fake::new();
    ipvs.apply(&additions()).unwrap();
    fake.apply(&additions()).unwrap();
    let web = server(Protocol::Tcp, "10.97.97.97:80", "rr");
    let missing = server(Protocol::Tcp, "10.97.97.98:80", "rr").address;
    for change in [
        Change::AddVirtual(web.clone()),
        Change::AddVirtual(server(Protocol::Tcp, "10.97.97.99:80", "no-such")),
        Change::SetVirtual(server(Protocol::Tcp, "10.97.97.97:80", "no-such")),
        Change::SetVirtual(server(Protocol::Tcp, "10.97.97.98:80", "rr")),
        Change::DeleteVirtual(missing),
        Change::AddReal(missing, real("10.244.0.2:80", 1)),
        Change::AddReal(web.address, real("10.244.0.2:80", 1)),
        Change::AddReal(web.address, real("[fd00::2]:80", 1)),
        Change::SetReal(web.address, real("10.244.0.7:80", 1)),
        Change::DeleteReal(web.address, "10.244.0.7:80".parse().unwrap()),
        Change::AddVirtual(VirtualServer {
            client_prefix: 0,
            ..server(Protocol::Tcp, "[fd00:96::9]:80", "rr")
        }),
    ] {
        let error = ipvs.apply(std::slice::from_ref(&change)).unwrap_err();
        assert!(
            error.to_string().starts_with(&format!("{change}: ")),
            "{error}"
        );
        let expected = fake.apply(std::slice::from_ref(&change)).unwrap_err();
        assert_eq!(error.errno(), expected.errno(), "{change}");
    }
    assert_eq!(ipvs.real_servers(&missing).unwrap(), []);
    assert_eq!(fake.real_servers(&missing).unwrap(), []);
    // What comes after a refusal is carried out.
    let other = server(Protocol::Udp, "10.97.97.97:80", "rr");
    let changes = [Change::AddVirtual(web), Change::AddVirtual(other.clone())];
    assert!(ipvs.apply(&changes).unwrap_err().is_exists());
    assert!(ipvs.virtual_servers().unwrap().contains(&other));
}

#[test]
fn many_servers_fit() {
    let Some((_node, mut ipvs)) = open("ipvs-many") else {
        return;
    };
    let address = |index: u32| {
        let ip = std::net::IpAddr::from((0x0a60_0000 | index).to_be_bytes());
        let socket = SocketAddr::new(ip, 80);
        VirtualServer {
            address: VirtualAddress {
                protocol: Protocol::Tcp,
                socket,
            },
            ..server(Protocol::Tcp, "10.0.0.1:1", "rr")
        }
    };
    let changes: Vec<_> = (1..=1000)
        .flat_map(|index| {
            let server = address(index);
            let real = Change::AddReal(server.address, real("10.244.0.2:80", 1));
            [Change::AddVirtual(server), real]
        })
        .collect();
    ipvs.apply(&changes).unwrap();
    assert_eq!(ipvs.virtual_servers().unwrap().len(), 1000);
    assert_eq!(ipvs.real_servers(&address(1000).address).unwrap().len(), 1);
}

#[test]
fn timeouts_are_set_one_by_one() {
    let Some((_node, mut ipvs)) = open("ipvs-timeouts") else {
        return;
    };
    let before = ipvs.timeouts().unwrap();
    let changed = Timeouts {
        tcp: 1000,
        udp: 77,
        tcp_fin: 0,
    };
    ipvs.set_timeouts(changed).unwrap();
    let expected = Timeouts {
        tcp_fin: before.tcp_fin,
        ..changed
    };
    assert_eq!(ipvs.timeouts().unwrap(), expected);
}
