//! host-local among 10,000 addresses, with the reference plugin at work in the same directory and processes
//! killed at every step: no address ever has two owners, and none is lost.

use std::{
    collections::BTreeMap,
    fs,
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
};

use proptest::prelude::*;
use serde_json::json;
use tempfile::TempDir;

use super::{add, del};
use crate::model::{Attachment, NetConf};

/// 10.1.0.0/18, without network, gateway and broadcast address.
const ADDRESSES: u32 = 16_384 - 3;
const PREFILLED: u32 = 10_000;
/// How many steps are put in order where reading all files takes long.
const BURST: usize = 12;

#[derive(Clone, Debug)]
enum Step {
    /// Our ADD and DEL of container `.0`.
    Add(u8),
    Del(u8),
    /// What the reference plugin does on ADD and DEL.
    GoAdd(u8),
    GoDel(u8),
    /// The reference plugin, killed before it filled the file.
    GoKilled,
    /// Ours, killed after the address file was made, with or without the temporary name of it.
    Killed(u8, bool),
    /// Ours, killed while it changed the index.
    KilledInIndex(bool),
    /// Somebody removes what he does not know.
    IndexLost,
}

/// A directory of a network, and who has to be found in it.
struct Network {
    base: TempDir,
    owners: BTreeMap<IpAddr, String>,
    next: u32,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => (0..20u8).prop_map(Step::Add),
        8 => (0..20u8).prop_map(Step::Del),
        3 => (0..20u8).prop_map(Step::GoAdd),
        3 => (0..20u8).prop_map(Step::GoDel),
        1 => Just(Step::GoKilled),
        1 => (0..20u8, any::<bool>()).prop_map(|(id, linked)| Step::Killed(id, linked)),
        1 => any::<bool>().prop_map(Step::KilledInIndex),
        1 => Just(Step::IndexLost),
    ]
}

fn attachment(id: &str) -> Attachment {
    Attachment {
        container_id: id.into(),
        if_name: "eth0".parse().unwrap(),
        netns: String::new(),
        args: String::new(),
    }
}

fn number(offset: u32) -> IpAddr {
    Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 1, 0, 0)) + offset).into()
}

// === impl Step ===

impl Step {
    fn is_ours(&self) -> bool {
        matches!(self, Self::Add(_) | Self::Del(_))
    }
}

// === impl Network ===

impl Network {
    fn new(prefilled: u32) -> Self {
        let network = Self {
            base: tempfile::tempdir().unwrap(),
            owners: (0..prefilled)
                .map(|index| (number(index + 2), format!("old{index}")))
                .collect(),
            next: prefilled + 2,
        };
        fs::create_dir(network.dir()).unwrap();
        for (address, owner) in &network.owners {
            network.write(*address, owner);
        }
        network
    }

    fn dir(&self) -> PathBuf {
        self.base.path().join("net")
    }

    fn index(&self) -> PathBuf {
        self.base.path().join(".tweed/net")
    }

    fn conf(&self) -> NetConf {
        let ipam = json!({"dataDir": self.base.path(), "ranges": [[{"subnet": "10.1.0.0/18"}]]});
        let conf = json!({"name": "net", "cniVersion": "1.0.0", "ipam": ipam});
        NetConf::parse(conf.to_string().as_bytes()).unwrap()
    }

    fn write(&self, address: IpAddr, owner: &str) {
        let content = format!("{owner}\r\neth0");
        fs::write(self.dir().join(address.to_string()), content).unwrap();
    }

    fn held(&self, id: &str) -> Option<IpAddr> {
        let held = self.owners.iter().find(|(_, owner)| *owner == id);
        held.map(|(address, _)| *address)
    }

    /// Some address that nobody has.
    fn free(&mut self) -> IpAddr {
        loop {
            self.next = self.next % ADDRESSES + 2;
            let address = number(self.next);
            if !self.dir().join(address.to_string()).exists() {
                return address;
            }
        }
    }

    fn take(&mut self, step: &Step) {
        let id = |id: &u8| format!("c{id}");
        match step {
            Step::Add(c) => self.add(&id(c)),
            Step::Del(c) => {
                del(&attachment(&id(c)), &self.conf()).unwrap();
                self.forget(&id(c));
            }
            Step::GoAdd(c) if self.held(&id(c)).is_none() => {
                let address = self.free();
                self.write(address, &id(c));
                fs::write(self.dir().join("last_reserved_ip.0"), address.to_string()).unwrap();
                self.owners.insert(address, id(c));
            }
            Step::GoAdd(_) => {}
            Step::GoDel(c) => {
                if let Some(address) = self.held(&id(c)) {
                    fs::remove_file(self.dir().join(address.to_string())).unwrap();
                }
                self.forget(&id(c));
            }
            Step::GoKilled => {
                let address = self.free();
                fs::write(self.dir().join(address.to_string()), "").unwrap();
            }
            Step::Killed(c, linked) if self.held(&id(c)).is_none() => {
                let address = self.free();
                self.write(address, &id(c));
                let temporary = self.dir().join(".reserving");
                if *linked && !temporary.exists() {
                    fs::hard_link(self.dir().join(address.to_string()), temporary).unwrap();
                }
                self.owners.insert(address, id(c));
            }
            Step::Killed(..) => {}
            Step::KilledInIndex(before) => self.damage_index(*before),
            Step::IndexLost => {
                if self.index().exists() {
                    fs::remove_dir_all(self.index()).unwrap();
                }
            }
        }
    }

    fn add(&mut self, id: &str) {
        let added = add(&attachment(id), &self.conf());
        match self.held(id) {
            Some(held) => assert_eq!(
                added.unwrap_err().message,
                format!(
                    "failed to allocate for range 0: {held} has been allocated to {id}, duplicate allocation is not allowed"
                )
            ),
            None => {
                let address = added.unwrap().ips[0].address.0.ip();
                let before = self.owners.insert(address, id.to_owned());
                assert_eq!(before, None, "{address} has two owners");
            }
        }
    }

    fn forget(&mut self, id: &str) {
        self.owners.retain(|_, owner| owner != id);
    }

    /// A link of the index is gone, or names what never was; the stamp went before that.
    fn damage_index(&self, remove: bool) {
        let stamp = self.index().join(".stamp");
        if fs::symlink_metadata(&stamp).is_err() {
            return;
        }
        fs::remove_file(stamp).unwrap();
        let link = fs::read_dir(self.index()).unwrap().next();
        if let Some(link) = link {
            let path = link.unwrap().path();
            fs::remove_file(&path).unwrap();
            if !remove {
                std::os::unix::fs::symlink("10.1.63.7", path).unwrap();
            }
        }
    }

    /// The address files say what they should.
    fn check(&self) {
        let mut found = BTreeMap::new();
        for entry in fs::read_dir(self.dir()).unwrap() {
            let entry = entry.unwrap();
            let Ok(address) = entry.file_name().to_str().unwrap().parse::<IpAddr>() else {
                continue;
            };
            let content = fs::read_to_string(entry.path()).unwrap();
            if let Some((owner, _)) = content.split_once("\r\n") {
                found.insert(address, owner.to_owned());
            }
        }
        assert_eq!(found, self.owners);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1, ..ProptestConfig::default() })]

    #[test]
    fn ten_thousand_addresses_survive(mut steps in prop::collection::vec(step(), 60..100)) {
        let mut network = Network::new(PREFILLED);
        // What others do comes in bursts: the next call of ours reads all files for one as well as for five.
        for burst in steps.chunks_mut(BURST) {
            burst.sort_by_key(Step::is_ours);
        }
        for step in &steps {
            network.take(step);
        }
        network.check();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn every_step_leaves_each_address_to_one_owner(steps in prop::collection::vec(step(), 40..120)) {
        let mut network = Network::new(0);
        for step in &steps {
            network.take(step);
            network.check();
        }
    }
}

/// All that is gone is given out again, all that is held is not.
#[test]
fn no_address_is_lost_for_ever() {
    let mut network = Network::new(ADDRESSES - 3);
    network.take(&Step::GoKilled);
    let zeroed = network.free();
    fs::write(network.dir().join(zeroed.to_string()), "\0\0\0").unwrap();
    for container in ["a", "b", "c"] {
        network.add(container);
    }
    let error = add(&attachment("d"), &network.conf()).unwrap_err();
    assert_eq!(
        error.message,
        "failed to allocate for range 0: no IP addresses available in range set: 10.1.0.1-10.1.63.254"
    );
    network.check();
}

/// With the index in place, what is in the files of others makes no difference: they are not read.
#[test]
fn the_files_of_others_are_not_read() {
    let mut network = Network::new(2);
    network.add("a");
    let other = "10.1.0.2".parse().unwrap();
    network.write(other, "b");
    network.add("b");
    network.write(other, "c");
    del(&attachment("c"), &network.conf()).unwrap();
    network.write(other, "old0");
    network.check();
}
