//! Accounting objects, and the rules that count in them.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use std::net::UdpSocket;

use kernel::{
    Family,
    accounting::Handle,
    iptables::{Backend, Iptables, NativeTables},
    nft,
};
use namespace::TestNamespace;

const NAME: &str = "tweed-test";
const COUNTED: &str = "*filter\n:TWEED-COUNT - [0:0]\n\
                       -A TWEED-COUNT -m nfacct --nfacct-name tweed-test -j RETURN\n\
                       -I OUTPUT -j TWEED-COUNT\nCOMMIT\n";

#[test]
fn packets_are_counted_by_either_kind_of_tables() {
    for backend in Backend::ALL {
        let node = TestNamespace::new("accounting");
        node.run("ip", &["link", "set", "lo", "up"], "");
        let count = || {
            let mut handle = Handle::open().unwrap();
            assert_eq!(handle.packets(NAME).unwrap(), None);
            handle.ensure(NAME).unwrap();
            assert_eq!(handle.packets(NAME).unwrap(), Some(0));
            let programs = Iptables::find(Family::V4, backend).unwrap();
            if backend == Backend::Nft {
                let mut tables = nft::Handle::open().unwrap();
                let restored = NativeTables::new(&mut tables, &programs).restore(COUNTED);
                assert_eq!(restored.unwrap(), Some(1));
            } else {
                programs.restore(COUNTED).unwrap();
            }
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            for _ in 0..3 {
                socket.send_to(b"x", socket.local_addr().unwrap()).unwrap();
            }
            handle.ensure(NAME).unwrap();
            assert_eq!(handle.packets(NAME).unwrap(), Some(3));
            assert!(handle.remove(NAME).is_err(), "a rule counts in it");
        };
        node.namespace.run(count).unwrap();
    }
}

#[test]
fn what_nothing_counts_in_can_be_removed() {
    let node = TestNamespace::new("accounting-remove");
    let remove = || {
        let mut handle = Handle::open().unwrap();
        handle.ensure(NAME).unwrap();
        assert!(handle.remove(NAME).unwrap());
        assert!(!handle.remove(NAME).unwrap());
    };
    node.namespace.run(remove).unwrap();
}
