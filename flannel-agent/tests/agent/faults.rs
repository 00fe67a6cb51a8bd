//! Faults at random, of the kernel, of agents, of etcd and in it: after each round everything is as etcd
//! says, no subnet ever has two nodes, and nodes that are left alone do not notice.
//!
//! `TWEED_FAULTS_SECONDS` is how long it goes on, `TWEED_FAULTS_SEED` repeats the choices of a run.

use std::{
    collections::{BTreeMap, BTreeSet},
    env,
    path::PathBuf,
    sync::mpsc,
    thread::{self, JoinHandle},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use flannel_agent::model::{Attributes, Entry};
use kernel::Family;
use nix::sys::signal::Signal;
use tempfile::TempDir;

use crate::{
    healing::{FAULTS, State, state},
    history::{History, Write},
    lab::{Lab, Node, name},
    nodes::wait_for_peers,
    ping::{Ping, announced, subnet},
};

const CONF: &str = r#"{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}"#;
/// How long it goes on if nothing else is asked for, and which choices are made then.
const SECONDS: u64 = 15;
const SEED: u64 = 4;
/// How long it takes at most until all is right again, when there are no more faults.
const QUIET: Duration = Duration::from_secs(10);
/// The same on a machine that is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long it is to stay right, at least.
const LASTING: Duration = Duration::from_secs(1);

/// Numbers that look like chance, the same for the same seed (SplitMix64).
struct Random(u64);

/// The lab with what was done to it.
struct Run {
    lab: Lab,
    /// The first two are never touched.
    nodes: Vec<Node>,
    random: Random,
    copy: TempDir,
    etcd_runs: bool,
    history: History,
    /// What this test has written to etcd itself.
    written: BTreeSet<Write>,
    /// How many nodes there are that only etcd knows.
    phantoms: u8,
    begun: Instant,
}

/// Looks all the time whether two nodes announce one subnet.
struct Announcements {
    stop: mpsc::Sender<()>,
    thread: JoinHandle<BTreeSet<String>>,
}

// === impl Random ===

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % end
    }

    fn pause(&mut self, longest: u64) {
        thread::sleep(Duration::from_millis(self.below(longest)));
    }
}

// === impl Run ===

impl Run {
    fn new(seed: u64) -> Self {
        let lab = Lab::new("faults", CONF);
        let mut nodes: Vec<_> = (1..=6).map(|number| lab.node(number)).collect();
        for node in &mut nodes {
            node.start_ready(&["--ip-masq"]);
        }
        wait_for_peers(&nodes.iter().collect::<Vec<_>>(), Family::V4, "flannel.1");
        let history = History::record(&lab);
        Self {
            lab,
            nodes,
            random: Random(seed),
            copy: tempfile::tempdir().unwrap(),
            etcd_runs: true,
            history,
            written: BTreeSet::new(),
            phantoms: 0,
            begun: Instant::now(),
        }
    }

    fn say(&self, what: &str) {
        eprintln!("{:9.3} {what}", self.begun.elapsed().as_secs_f64());
    }

    /// Some faults, some of them while others last.
    fn round(&mut self) {
        for _ in 0..=self.random.below(6) {
            let touched = 2 + self.random.below(4) as usize;
            match self.random.below(12) {
                0 | 1 => self.kill(touched),
                2..=5 => self.break_device(touched),
                6 => self.flap(touched),
                7..=9 => self.edit(touched),
                _ => self.break_etcd(),
            }
            self.random.pause(900);
        }
    }

    /// Everything that should run does.
    fn end_faults(&mut self) {
        if !self.etcd_runs {
            self.say("etcd is started");
            self.lab.etcd.run();
            self.etcd_runs = true;
        }
        for index in 0..self.nodes.len() {
            if !self.nodes[index].is_running() {
                self.say(&format!("agent {} is started", index + 1));
                self.nodes[index].start(&["--ip-masq"]);
            }
        }
    }

    fn kill(&mut self, touched: usize) {
        if self.nodes[touched].is_running() {
            self.say(&format!("agent {} is killed", touched + 1));
            self.nodes[touched].stop(Signal::SIGKILL);
        }
        if self.random.below(2) == 0 {
            self.random.pause(300);
            self.say(&format!("agent {} is started", touched + 1));
            self.nodes[touched].start(&["--ip-masq"]);
        }
    }

    fn break_device(&mut self, touched: usize) {
        let (program, arguments) = match self.random.below(FAULTS.len() as u64 + 1) as usize {
            index if index < FAULTS.len() => FAULTS[index],
            _ => ("nft", &["delete", "table", "ip", "flannel-ipv4"][..]),
        };
        let arguments = arguments.iter().copied();
        let arguments: Vec<_> = arguments
            .map(|it| if it == "DEV" { "flannel.1" } else { it })
            .collect();
        self.say(&format!("{} {program} {arguments:?}", touched + 1));
        // There may be nothing left to break.
        self.nodes[touched].try_ip(program, &arguments);
    }

    fn flap(&mut self, touched: usize) {
        self.say(&format!("{} eth0 goes down and up", touched + 1));
        self.nodes[touched].ip("ip", &["link", "set", "eth0", "down"]);
        self.random.pause(600);
        let node = &self.nodes[touched];
        node.ip("ip", &["link", "set", "eth0", "up"]);
        node.ip(
            "ip",
            &["route", "replace", "default", "via", "192.168.64.254"],
        );
    }

    /// Edits a lease by hand.
    fn edit(&mut self, touched: usize) {
        if !self.etcd_runs {
            return;
        }
        let address = format!("\"{}\"", self.nodes[touched].underlay());
        let Some((name, value)) = self.lab.etcd.lease_of(&address) else {
            return;
        };
        let key = format!("subnets/{name}");
        match self.random.below(6) {
            0 => self.lab.etcd.delete(&key),
            1 => {
                self.phantoms = (self.phantoms + 1) % 200;
                let number = self.phantoms;
                let other = format!("192.168.64.{}", 50 + number);
                let mac = format!("0e:00:00:00:00:{number:02x}");
                let value = format!(
                    r#"{{"PublicIP":"{other}","PublicIPv6":null,"BackendType":"vxlan","BackendData":{{"VNI":1,"VtepMAC":"{mac}"}}}}"#
                );
                self.note(&key, &value);
                self.lab.etcd.put_leased(&key, &value);
            }
            2 => {
                self.note(&key, &value);
                self.lab.etcd.put(&key, &value);
            }
            3 => {
                self.note(&key, "junk");
                self.lab.etcd.put(&key, "junk");
            }
            4 => self.lab.etcd.revoke(&key),
            _ => {
                let value = format!(r#"{{"PublicIP":{address}}}"#);
                self.note(&key, &value);
                self.lab.etcd.put(&key, &value);
            }
        }
        self.say(&format!("lease {name} of {} is edited", touched + 1));
    }

    fn note(&mut self, key: &str, value: &str) {
        self.written
            .insert((format!("/{key}"), Some(value.to_owned())));
    }

    fn break_etcd(&mut self) {
        let what = self.random.below(6);
        self.say(match what {
            0 => "etcd is compacted",
            1 => "etcd is restarted",
            2 => "etcd is copied",
            3 | 4 => "etcd is stopped",
            _ => "etcd is restored from a copy",
        });
        if what == 0 && self.etcd_runs {
            self.lab.etcd.compact();
            return;
        }
        self.lab.etcd.stop();
        self.etcd_runs = false;
        let copy = self.copy.path().join("data");
        match what {
            2 => self.lab.etcd.copy_store(&copy),
            5 if copy.exists() => {
                self.lab.etcd.replace_store(Some(&copy));
                self.history.forget();
            }
            3 | 4 => return,
            _ => self.random.pause(300),
        }
        self.lab.etcd.run();
        self.etcd_runs = true;
    }

    /// What is not yet as etcd says, if anything.
    fn wrong(&self) -> Option<String> {
        let leases = self.lab.etcd.leases();
        let leases: BTreeMap<_, _> = leases
            .iter()
            .filter_map(|kv| {
                let entry = Entry::parse(&name(kv), kv.value(), kv.mod_revision(), kv.lease());
                let attributes = entry.lease.ok()?.attributes;
                Some((name(kv).replace('-', "/"), attributes))
            })
            .collect();
        let mut wrong = self.nodes.iter().filter_map(|node| wrong(node, &leases));
        wrong.next()
    }

    /// Waits until everything is right and stays so, and answers how long that took.
    fn settle(&self, patience: Duration) -> Duration {
        let begun = Instant::now();
        while let Some(wrong) = self.wrong() {
            assert!(begun.elapsed() < patience, "not right again: {wrong}");
            thread::sleep(Duration::from_millis(50));
        }
        let settled = begun.elapsed();
        thread::sleep(LASTING);
        assert_eq!(
            self.wrong(),
            None,
            "right after {settled:?}, but not for long"
        );
        settled
    }
}

// === impl Announcements ===

impl Announcements {
    fn watch(files: Vec<PathBuf>) -> Self {
        let (stop, stopped) = mpsc::channel();
        let thread = thread::spawn(move || {
            let mut clashes = BTreeSet::new();
            while stopped.recv_timeout(Duration::from_millis(20)).is_err() {
                let mut seen = BTreeSet::new();
                let all = files.iter().filter_map(|file| subnet(file));
                clashes.extend(all.filter(|subnet| !seen.insert(subnet.clone())));
            }
            clashes
        });
        Self { stop, thread }
    }

    /// The subnets that two nodes announced at one time.
    fn end(self) -> BTreeSet<String> {
        self.stop.send(()).unwrap();
        self.thread.join().unwrap()
    }
}

/// What of a node is not as the leases, by subnet, say.
fn wrong(node: &Node, leases: &BTreeMap<String, Attributes>) -> Option<String> {
    let number = node.number;
    let Some(own) = announced(node).map(|it| it.replace(".1/24", ".0/24")) else {
        return Some(format!("node {number} announces no subnet"));
    };
    let is_own = |it: &Attributes| it.public.get(Family::V4) == Some(&node.underlay());
    let Some(lease) = leases.get(&own).filter(|it| is_own(it)) else {
        return Some(format!(
            "node {number} announces {own}, which is not its own"
        ));
    };
    let peers = || {
        leases
            .iter()
            .filter(|(_, it)| !is_own(it))
            .filter_map(|(subnet, it)| {
                Some((subnet, it.public.get(Family::V4)?, it.vtep(Family::V4)?.mac))
            })
    };
    let far = |subnet: &str| subnet.replace("/24", "");
    let expected = State {
        mac: lease.vtep(Family::V4).map(|it| it.mac),
        mtu: 1450,
        up: true,
        addresses: vec![format!("{}/32", far(&own))],
        routes: sorted(peers().map(|(it, _, _)| format!("{it} via {} onlink proto 84", far(it)))),
        neighbours: sorted(peers().map(|(it, _, mac)| format!("{} {mac}", far(it)))),
        fdb: sorted(peers().map(|(_, address, mac)| format!("{mac} {address}"))),
    };
    let standing = state(node, Family::V4, "flannel.1");
    if standing.as_ref() != Some(&expected) {
        return Some(format!(
            "node {number} has {standing:#?}, not {expected:#?}"
        ));
    }
    let rules = node.try_ip("nft", &["list", "table", "ip", "flannel-ipv4"]);
    (!rules.contains(&format!("ip saddr 10.5.0.0/16 ip daddr {own} return")))
        .then(|| format!("node {number} has these rules: {rules}"))
}

fn sorted(texts: impl Iterator<Item = String>) -> Vec<String> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort();
    texts.dedup();
    texts
}

fn number(variable: &str) -> Option<u64> {
    env::var(variable).ok().map(|text| text.parse().unwrap())
}

#[test]
fn random_faults_are_survived() {
    let by_hand = number("TWEED_FAULTS_SECONDS");
    let seconds = by_hand.unwrap_or(SECONDS);
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let chance = by_hand.map_or(SEED, |_| now().subsec_nanos().into());
    let seed = number("TWEED_FAULTS_SEED").unwrap_or(chance);
    eprintln!("TWEED_FAULTS_SECONDS={seconds} TWEED_FAULTS_SEED={seed}");
    let patience = by_hand.map_or(PATIENCE, |_| QUIET);
    let mut run = Run::new(seed);
    let files = run.nodes.iter().map(Node::subnet_file).collect();
    let announcements = Announcements::watch(files);
    let mut ping = Ping::start(&run.nodes[0], &run.nodes[1]);
    let end = Instant::now() + Duration::from_secs(seconds);
    let (mut rounds, mut longest) = (0, Duration::ZERO);
    while Instant::now() < end {
        run.round();
        run.end_faults();
        longest = longest.max(run.settle(patience));
        rounds += 1;
    }
    let summary = ping.end();
    let clashes = announcements.end();
    let writes = run.history.end();
    let lines = run.nodes.iter().map(|it| it.log().lines().count());
    eprintln!("lines of log: {:?}", lines.collect::<Vec<_>>());
    eprintln!("{rounds} rounds, right again after at most {longest:?}");
    eprintln!("{}", summary.lines().rev().nth(1).unwrap_or_default());
    assert!(summary.contains(" 0% packet loss"), "{summary}");
    assert_eq!(clashes, BTreeSet::new());
    assert_eq!(writes.taken_over(&run.written), Vec::<String>::new());
}
