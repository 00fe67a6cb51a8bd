//! Probes through the overlay: who answers, how fast, and how large packets get there and back.

use std::{
    collections::BTreeMap,
    net::IpAddr,
    time::{Duration, Instant},
};

use kernel::{
    Family,
    icmp::{EchoReply, EchoRequest, EchoSocket},
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(1);
/// How many are asked at a time, so that their answers fit the socket's buffer.
const AT_ONCE: usize = 64;
/// How often a size is tried before it counts as too large.
const TRIES: usize = 2;

/// What probing one node has shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// How many small packets were answered.
    pub answered: u32,
    /// The shortest time until an answer.
    pub latency: Option<Duration>,
    /// The largest packet that was answered, in bytes; not larger than was asked for.
    pub mtu: Option<u32>,
}

/// Sends probes.
struct Prober {
    sockets: BTreeMap<Family, EchoSocket>,
    id: u16,
    sequence: u16,
}

/// The sizes between which the largest one is, both in bytes.
#[derive(Clone, Copy)]
struct Range {
    passes: u32,
    fails: u32,
}

/// Probes all addresses, each by so many small packets, and then by larger ones of `mtu` bytes at the most.
///
/// # Errors
/// When the kernel gives no raw sockets, or sends nothing.
pub fn probe(
    addresses: &[IpAddr],
    count: u32,
    mtu: u32,
) -> kernel::Result<BTreeMap<IpAddr, Findings>> {
    let mut prober = Prober::open(addresses)?;
    let mut all: BTreeMap<_, _> = addresses
        .iter()
        .map(|address| (*address, Findings::default()))
        .collect();
    for _ in 0..count {
        let sizes: Vec<_> = addresses.iter().map(|it| (*it, least(it))).collect();
        for (address, latency) in prober.round(&sizes)? {
            let findings = all.entry(address).or_default();
            findings.answered += 1;
            findings.latency = Some(findings.latency.map_or(latency, |it| it.min(latency)));
        }
    }
    let reached = all.iter().filter(|(_, it)| it.answered > 0);
    let reached: Vec<_> = reached.map(|(address, _)| *address).collect();
    for (address, passes) in prober.largest(&reached, mtu)? {
        all.entry(address).or_default().mtu = Some(passes);
    }
    Ok(all)
}

// === impl Prober ===

impl Prober {
    fn open(addresses: &[IpAddr]) -> kernel::Result<Self> {
        let mut sockets = BTreeMap::new();
        for family in Family::ALL {
            if addresses.iter().any(|it| Family::of(it) == family) {
                sockets.insert(family, EchoSocket::open(family)?);
            }
        }
        Ok(Self {
            sockets,
            id: std::process::id() as u16,
            sequence: 0,
        })
    }

    /// The largest size that each address answers, by halving what is between.
    fn largest(&mut self, addresses: &[IpAddr], mtu: u32) -> kernel::Result<BTreeMap<IpAddr, u32>> {
        let range = |address: &IpAddr| Range {
            passes: least(address),
            fails: mtu + 1,
        };
        let mut ranges: BTreeMap<_, _> = addresses.iter().map(|it| (*it, range(it))).collect();
        // The wanted size first: as a rule it passes.
        let mut next: fn(&Range) -> u32 = |range| range.fails - 1;
        loop {
            let open = ranges.iter().filter(|(_, it)| it.passes + 1 < it.fails);
            let sizes: Vec<_> = open.map(|(address, it)| (*address, next(it))).collect();
            if sizes.is_empty() {
                return Ok(ranges
                    .into_iter()
                    .map(|(address, it)| (address, it.passes))
                    .collect());
            }
            let answered = self.tries(&sizes)?;
            for (address, size) in sizes {
                if let Some(range) = ranges.get_mut(&address) {
                    match answered.contains_key(&address) {
                        true => range.passes = size,
                        false => range.fails = size,
                    }
                }
            }
            next = |range| range.passes.midpoint(range.fails);
        }
    }

    /// A packet may also get lost by chance.
    fn tries(&mut self, sizes: &[(IpAddr, u32)]) -> kernel::Result<BTreeMap<IpAddr, Duration>> {
        let mut answered = BTreeMap::new();
        for _ in 0..TRIES {
            let left = sizes
                .iter()
                .filter(|(address, _)| !answered.contains_key(address));
            let left: Vec<_> = left.copied().collect();
            answered.extend(self.round(&left)?);
        }
        Ok(answered)
    }

    /// One packet to each address, of its size; answers with how long each answer took.
    fn round(&mut self, sizes: &[(IpAddr, u32)]) -> kernel::Result<BTreeMap<IpAddr, Duration>> {
        let mut answered = BTreeMap::new();
        for some in sizes.chunks(AT_ONCE) {
            self.sequence = self.sequence.wrapping_add(1);
            let start = Instant::now();
            let mut waiting = BTreeMap::new();
            for (to, length) in some {
                let request = EchoRequest {
                    to: *to,
                    id: self.id,
                    sequence: self.sequence,
                    length: *length as usize,
                };
                let sent = Instant::now();
                if self.sockets[&Family::of(to)].send(&request)? {
                    waiting.insert(*to, sent);
                }
            }
            while !waiting.is_empty() && start.elapsed() < PATIENCE {
                self.receive(&mut waiting, &mut answered)?;
            }
        }
        Ok(answered)
    }

    fn receive(
        &self,
        waiting: &mut BTreeMap<IpAddr, Instant>,
        answered: &mut BTreeMap<IpAddr, Duration>,
    ) -> kernel::Result<()> {
        for socket in self.sockets.values() {
            let Some(EchoReply { from, id, sequence }) =
                socket.receive(Duration::from_millis(10))?
            else {
                continue;
            };
            if (id, sequence) == (self.id, self.sequence)
                && let Some(sent) = waiting.remove(&from)
            {
                answered.insert(from, sent.elapsed());
            }
        }
        Ok(())
    }
}

/// The size of a usual ping, in bytes.
const fn least(address: &IpAddr) -> u32 {
    match address {
        IpAddr::V4(_) => 84,
        IpAddr::V6(_) => 104,
    }
}
