//! IPVS mode with ipsets and chains of iptables beside virtual servers (`--ipvs-filter=ipset`): what people see, and
//! that another filter or mode takes over in the middle of traffic. The other rows hold with `TWEED_IPVS_FILTER=ipset`.

use kernel::Family;

use crate::{
    eventually,
    iptables::{BOTH, iptables},
    load::under_load,
    network::{CLUSTER_CIDR, Network},
    proxy::{Mode, Proxy},
    server::Connection,
    switch::{INTERFACE, has_ipvs, is_alone},
    takeover::ipset,
    web,
};

/// A mode and its options of a way through all that IPVS mode can come from and lead to.
type Way = (Mode, &'static [&'static str]);

const NFT: &[&str] = &["--ipvs-filter=nft"];
const SETS: &[&str] = &["--ipvs-filter=ipset", "--iptables-backend=nft"];
const SETS_LEGACY: &[&str] = &["--ipvs-filter=ipset", "--iptables-backend=legacy"];

fn start(network: &Network, (mode, options): Way) -> Proxy {
    let options = [&["--cluster-cidr", CLUSTER_CIDR][..], options].concat();
    Proxy::start_in(mode, network, &options)
}

/// What `ipset list` and `iptables -nvL` show of kube-proxy, they show of this.
#[test]
fn people_see_sets_and_chains_that_they_know() {
    let network = Network::new();
    if !has_ipvs(&network) {
        println!("skipped: IPVS is not in this kernel");
        return;
    }
    let service = web(Family::V4);
    network.write(&service);
    for (mode, options) in BOTH.into_iter().zip([SETS, SETS_LEGACY]) {
        let mut proxy = start(&network, (Mode::Ipvs, options));
        let listed = ipset(&network, "list KUBE-CLUSTER-IP");
        let member = format!("{},tcp:{}", service.cluster_ip, service.socket().port());
        assert!(listed.contains("Type: hash:ip,port\n"), "{listed}");
        assert!(listed.lines().any(|it| it == member), "{listed}");
        let chain = iptables(&network, mode, "", "-t nat -nvL KUBE-SERVICES");
        let known = "match-set KUBE-CLUSTER-IP dst,dst";
        assert!(
            chain.contains("Kubernetes service cluster ip + port"),
            "{chain}"
        );
        assert!(
            chain
                .lines()
                .any(|it| it.contains("KUBE-MARK-MASQ") && it.contains(known))
        );
        assert!(
            chain
                .lines()
                .any(|it| it.contains("ACCEPT") && it.contains(known))
        );
        assert!(!network.nft("list tables").contains("tweed-ipvs"));
        proxy.kill();
        let restarted = start(&network, (Mode::Ipvs, options));
        let unchanged = "first sync: 0 elements added, 0 deleted, 0 other commands;";
        assert!(restarted.log().contains(unchanged), "{}", restarted.log());
    }
    assert!(Proxy::clean_up(&network).success());
    assert_eq!(ipset(&network, "list -name"), "");
    assert!(network.interface(INTERFACE).is_none());
    let left = BOTH.map(|mode| iptables(&network, mode, "-save", ""));
    assert!(!left.concat().contains("KUBE"), "{left:?}");
}

/// Members that others take away are put back, and so are rules.
#[test]
fn what_others_change_is_repaired() {
    let network = Network::new();
    if !has_ipvs(&network) {
        println!("skipped: IPVS is not in this kernel");
        return;
    }
    network.write(&web(Family::V4));
    let _proxy = start(&network, (Mode::Ipvs, SETS_LEGACY));
    let sets = || ipset(&network, "save");
    let members = |text: &str| -> Vec<String> {
        let added = text.lines().filter(|it| it.starts_with("add "));
        added.map(str::to_owned).collect()
    };
    let before = members(&sets());
    for name in ["KUBE-CLUSTER-IP", "KUBE-IPVS-SERVERS", "KUBE-IPVS-IPS"] {
        ipset(&network, &format!("flush {name}"));
    }
    iptables(&network, Mode::Legacy, "", "-t nat -F KUBE-SERVICES");
    eventually("the sets to be full again", || members(&sets()) == before);
    eventually("the rules to be back", || {
        let saved = iptables(&network, Mode::Legacy, "-save", "-t nat");
        saved.contains("-A KUBE-SERVICES")
    });
}

/// Whatever stands beside virtual servers, and whatever mode it was before, a restart with something else loses no
/// connection, and leaves nothing of what was.
fn another_filter_takes_over(family: Family, ways: &[Way]) {
    let network = Network::new();
    if !has_ipvs(&network) {
        println!("skipped: IPVS is not in this kernel");
        return;
    }
    network.write(&web(family));
    let mut proxy = start(&network, (Mode::Ipvs, NFT));
    under_load(&network, family, |open| {
        for way @ (mode, options) in ways {
            proxy.terminate();
            open.iter_mut().for_each(Connection::assert_echoes);
            proxy = start(&network, *way);
            let alone = match *options {
                SETS => Mode::Nft,
                SETS_LEGACY => Mode::Legacy,
                _ => *mode,
            };
            eventually("the others to be gone", || {
                let table = network.nft("list tables").contains("tweed-ipvs");
                is_alone(&network, alone) && (*options == NFT || !table || *mode != Mode::Ipvs)
            });
            open.iter_mut().for_each(Connection::assert_echoes);
        }
    });
}

#[test]
fn another_filter_takes_over_v4() {
    another_filter_takes_over(
        Family::V4,
        &[
            (Mode::Ipvs, SETS),
            (Mode::Nft, &[]),
            (Mode::Ipvs, SETS),
            (Mode::Ipvs, NFT),
        ],
    );
}

#[test]
fn another_filter_takes_over_v6() {
    another_filter_takes_over(
        Family::V6,
        &[
            (Mode::Ipvs, SETS_LEGACY),
            (Mode::Legacy, &[]),
            (Mode::Ipvs, SETS_LEGACY),
            (Mode::Nftables, &[]),
        ],
    );
}
