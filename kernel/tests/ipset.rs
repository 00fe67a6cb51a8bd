//! Sets, and what ipset(8) sees of them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::collections::{BTreeMap, BTreeSet};

use kernel::{
    Family,
    ipset::{
        Change, DEFAULT_MAX, Definition, Fake, Handle, Kind, Member, ObservedSet, Protocol, Set,
        diff,
    },
};
use namespace::TestNamespace;
use nix::errno::Errno;

const NAME: &str = "TWEED-TEST";

fn members(family: Family, kind: Kind) -> BTreeSet<Member> {
    let [ip, other, network] = match family {
        Family::V4 => ["10.96.0.1", "10.244.0.7", "192.0.2.0/24"],
        Family::V6 => ["fd96::1", "fd44::7", "2001:db8::/56"],
    };
    let (ip, other) = (ip.parse().unwrap(), other.parse().unwrap());
    let of_protocol = |protocol: Protocol| {
        let socket = std::net::SocketAddr::new(ip, 53);
        match kind {
            Kind::Ip => vec![Member::Ip(ip), Member::Ip(other)],
            Kind::IpPort => vec![Member::IpPort(protocol, socket)],
            Kind::IpPortIp => vec![Member::IpPortIp(protocol, socket, other)],
            Kind::IpPortNet => vec![
                Member::IpPortNet(protocol, socket, network.parse().unwrap()),
                Member::IpPortNet(protocol, socket, other.into()),
            ],
            Kind::Port => [0, 30000, u16::MAX].map(Member::Port).to_vec(),
        }
    };
    Protocol::ALL.into_iter().flat_map(of_protocol).collect()
}

fn wanted(family: Family) -> BTreeMap<String, Set> {
    let sets = Kind::ALL.into_iter().map(|kind| {
        let set = Set {
            definition: Definition::new(kind, family),
            members: members(family, kind),
        };
        (format!("{NAME}-{}", kind.name().replace(':', "-")), set)
    });
    sets.collect()
}

fn read(handle: &mut Handle, want: &BTreeMap<String, Set>) -> BTreeMap<String, ObservedSet> {
    handle.read_all(want.keys().map(String::as_str)).unwrap()
}

#[test]
fn every_kind_is_made_and_read_back() {
    for family in Family::ALL {
        let node = TestNamespace::new("ipset-kinds");
        let mut handle = Handle::open_in(&node.namespace).unwrap();
        let want = wanted(family);
        handle.apply(&diff(&BTreeMap::new(), &want)).unwrap();
        let have = read(&mut handle, &want);
        assert_eq!(diff(&have, &want), [], "{have:?}");
        for (name, set) in &want {
            let Some(ObservedSet::Known(have)) = have.get(name) else {
                panic!("{name} is not known: {have:?}");
            };
            assert_eq!(have.members, set.members, "{name}");
        }
        let names = handle.names().unwrap();
        assert!(names.iter().map(|it| &it.name).eq(want.keys()));
        assert!(names.iter().any(|it| it.kind == "hash:ip,port,net"));
    }
}

/// Each member as `ipset` prints it is what it would have to be told.
#[test]
fn ipset_shows_what_was_made() {
    for family in Family::ALL {
        let node = TestNamespace::new("ipset-save");
        let mut handle = Handle::open_in(&node.namespace).unwrap();
        let want = wanted(family);
        let changes = diff(&BTreeMap::new(), &want);
        handle.apply(&changes).unwrap();
        let saved = node.run("ipset", &["save"], "");
        let saved: BTreeSet<_> = saved.lines().filter(|it| it.starts_with("add")).collect();
        let added = changes.iter().filter(|it| matches!(it, Change::Add(..)));
        let added: BTreeSet<_> = added
            .map(|it| it.to_string())
            .map(|it| it["ipset ".len()..it.len() - " -exist".len()].to_owned())
            .collect();
        assert_eq!(saved, added.iter().map(String::as_str).collect());
        let listed = node.run("ipset", &["list"], "");
        assert!(listed.contains("Type: hash:ip,port\n"), "{listed}");
    }
}

/// And the other way round: what `ipset` has made is read.
#[test]
fn what_ipset_has_made_is_read() {
    let node = TestNamespace::new("ipset-restore");
    let script = "create A hash:ip,port family inet6 hashsize 1024 maxelem 65536\n\
                  create B hash:ip timeout 60\ncreate C hash:net\n\
                  create D bitmap:port range 0-65535 comment\ncreate E bitmap:port range 1-10\n\
                  create F hash:ip,port\n\
                  add A fd00::1,sctp:80\nadd D 30000\nadd F 10.0.0.1,icmp:8/0\n";
    node.run("ipset", &["restore"], script);
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let mut set = |name| handle.read(name).unwrap();
    let known = |kind, family, member| {
        Some(ObservedSet::Known(Set {
            definition: Definition::new(kind, family),
            members: BTreeSet::from([member]),
        }))
    };
    let member = Member::IpPort(Protocol::Sctp, "[fd00::1]:80".parse().unwrap());
    assert_eq!(set("A"), known(Kind::IpPort, Family::V6, member));
    assert_eq!(set("D"), known(Kind::Port, Family::V4, Member::Port(30000)));
    for other in ["B", "C", "E", "F"] {
        assert_eq!(set(other), Some(ObservedSet::Other), "{other}");
    }
    assert_eq!(set("G"), None);
}

#[test]
fn more_room_is_made_while_rules_look() {
    let node = TestNamespace::new("ipset-room");
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let definition = |max| Definition {
        max,
        ..Definition::new(Kind::Ip, Family::V4)
    };
    let with = |count: u32, max| {
        let members = (0..count).map(|it| Member::Ip(std::net::Ipv4Addr::from(it + 1).into()));
        let set = Set {
            definition: definition(max),
            members: members.collect(),
        };
        BTreeMap::from([(NAME.to_owned(), set)])
    };
    let small = with(4, 4);
    handle.apply(&diff(&BTreeMap::new(), &small)).unwrap();
    let number = handle.number(NAME).unwrap().unwrap();
    assert_eq!(handle.name(number).unwrap().as_deref(), Some(NAME));
    let rule = ["-A", "INPUT", "-m", "set", "--match-set", NAME, "src"];
    node.run("iptables-legacy", &rule, "");
    let one_more = Change::Add(NAME.to_owned(), Member::Ip("10.0.0.1".parse().unwrap()));
    let error = handle.apply(&[one_more]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::ENOSPC));
    assert_eq!(
        error.to_string(),
        "ipset add TWEED-TEST 10.0.0.1 -exist: No space left on device (ENOSPC): \
         Hash is full, cannot add more elements"
    );
    // Somebody did not get to the end of it.
    let definition = Definition::new(Kind::Ip, Family::V6);
    handle
        .apply(&[Change::Create("TWEED-SPARE".into(), definition)])
        .unwrap();
    // Larger than what fits one message, and than what the kernel reads at once.
    let large = with(5000, DEFAULT_MAX);
    let changes = diff(&read(&mut handle, &small), &large);
    handle.apply(&changes).unwrap();
    assert_eq!(diff(&read(&mut handle, &large), &large), []);
    assert_eq!(handle.number(NAME).unwrap(), Some(number));
    assert_eq!(handle.names().unwrap().len(), 1);
    let error = handle.apply(&[Change::Destroy(NAME.into())]).unwrap_err();
    assert_eq!(error.errno(), Some(Errno::EBUSY));
    assert!(error.to_string().contains("in use by a kernel component"));
    node.run("iptables-legacy", &["-F"], "");
    handle.apply(&[Change::Destroy(NAME.into())]).unwrap();
    assert_eq!(handle.number(NAME).unwrap(), None);
}

#[test]
fn the_fake_refuses_what_the_kernel_refuses() {
    let node = TestNamespace::new("ipset-fake");
    let mut handle = Handle::open_in(&node.namespace).unwrap();
    let mut fake = Fake::new();
    let set = |kind, family| Definition::new(kind, family);
    let socket = "10.0.0.1:80".parse().unwrap();
    let member = Member::IpPort(Protocol::Tcp, socket);
    let whole = Member::IpPortNet(Protocol::Tcp, socket, "0.0.0.0/0".parse().unwrap());
    let of = |name: &str| name.to_owned();
    for (change, accepted) in [
        (Change::Add(of("A"), member), false),
        (Change::Create(of("A"), set(Kind::IpPort, Family::V4)), true),
        (
            Change::Create(of("A"), set(Kind::IpPort, Family::V4)),
            false,
        ),
        (Change::Add(of("A"), member), true),
        (Change::Add(of("A"), member), true),
        (Change::Delete(of("A"), member), true),
        (Change::Delete(of("A"), member), true),
        (Change::Create(of("B"), set(Kind::IpPort, Family::V6)), true),
        (Change::Add(of("B"), member), false),
        (Change::Swap(of("A"), of("B")), false),
        (
            Change::Create(of("C"), set(Kind::IpPortNet, Family::V4)),
            true,
        ),
        (Change::Add(of("C"), whole), false),
        (Change::Create(of("D"), set(Kind::Port, Family::V4)), true),
        (Change::Create(of("E"), set(Kind::Port, Family::V6)), true),
        (Change::Swap(of("D"), of("E")), true),
        (Change::Flush(of("A")), true),
        (Change::Flush(of("Z")), false),
        (Change::Destroy(of("Z")), false),
        (Change::Destroy(of("A")), true),
        (
            Change::Create("N".repeat(32), set(Kind::Ip, Family::V4)),
            false,
        ),
        (
            Change::Create("N".repeat(31), set(Kind::Ip, Family::V4)),
            true,
        ),
    ] {
        let changes = [change];
        let (real, faked) = (handle.apply(&changes), fake.apply(&changes));
        assert_eq!(real.is_ok(), accepted, "{}: {real:?}", changes[0]);
        assert_eq!(faked.is_ok(), accepted, "{}: {faked:?}", changes[0]);
    }
}
