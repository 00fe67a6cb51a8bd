//! Rules from text and to text.

use std::{
    fmt::{self, Write as _},
    iter::Peekable,
    net::{IpAddr, SocketAddr},
    vec,
};

use ipnetwork::IpNetwork;

use super::{Match, Maybe, Rule, STATES, Target, Transport, words};
use crate::Family;

/// The scale of probabilities in the kernel.
const PROBABILITY: f64 = 2_147_483_648.0;
/// What `REJECT` answers by, if it says nothing else.
const UNREACHABLE: [&str; 4] = [
    "icmp-port-unreachable",
    "port-unreach",
    "icmp6-port-unreachable",
    "port-unreachable",
];

/// Reads words one after the other.
struct Reader {
    words: Peekable<vec::IntoIter<String>>,
    family: Family,
    rule: Rule,
}

// === impl Rule ===

impl Rule {
    /// Reads a rule as it follows `-A CHAIN`; `None` if there is something in it that only a program knows.
    pub(in crate::iptables) fn parse(text: &str, family: Family) -> Option<Self> {
        let mut reader = Reader {
            words: words::words(text).into_iter().peekable(),
            family,
            rule: Self::default(),
        };
        while reader.option()? {}
        Some(reader.rule)
    }

    /// The rule as `iptables-save` prints it behind `-A CHAIN`.
    pub(in crate::iptables) fn text(&self, family: Family) -> String {
        let mut text = String::new();
        // Writing to a string can't fail.
        let written = self.write(family, &mut text);
        debug_assert!(written.is_ok(), "{self:?}");
        text.trim_end().to_owned()
    }

    fn write(&self, family: Family, f: &mut String) -> fmt::Result {
        for (option, network) in [("-s", &self.source), ("-d", &self.destination)] {
            if let Some(network) = network {
                write!(f, "{}{option} {} ", not(network.negated), network.value)?;
            }
        }
        if let Some(input) = &self.input {
            write!(f, "{}-i {} ", not(input.negated), input.value)?;
        }
        if let Some(protocol) = self.protocol {
            match transport(protocol) {
                Some(transport) => write!(f, "-p {} ", transport.name())?,
                None => write!(f, "-p {protocol} ")?,
            }
        }
        for it in &self.matches {
            it.write(family, f)?;
        }
        self.target
            .as_ref()
            .map_or(Ok(()), |target| target.write(family, f))
    }
}

// === impl Reader ===

impl Reader {
    /// Takes in an option; answers whether there was one.
    fn option(&mut self) -> Option<bool> {
        let Some(word) = self.words.next() else {
            return Some(false);
        };
        let negated = word == "!";
        let option = if negated { self.words.next()? } else { word };
        match (option.as_str(), negated) {
            ("-s", _) => self.rule.source = self.network(negated)?,
            ("-d", _) => self.rule.destination = self.network(negated)?,
            ("-i", _) => {
                let value = self.words.next()?;
                self.rule.input = Some(Maybe { negated, value });
            }
            ("-p", false) => self.rule.protocol = Some(protocol(&self.words.next()?)?),
            ("-m", false) => self.add_match()?,
            ("-j", false) => self.rule.target = Some(self.target()?),
            _ => return None,
        }
        Some(true)
    }

    /// `Some(None)` for the network of all addresses, which goes without saying.
    fn network(&mut self, negated: bool) -> Option<Option<Maybe<IpNetwork>>> {
        let network: IpNetwork = self.words.next()?.parse().ok()?;
        let value = IpNetwork::new(network.network(), network.prefix()).ok()?;
        let of_family = Family::of(&value.ip()) == self.family;
        let all = value.prefix() == 0;
        (of_family && !(all && negated)).then_some(())?;
        Some((!all).then_some(Maybe { negated, value }))
    }

    fn add_match(&mut self) -> Option<()> {
        let name = self.words.next()?;
        let read = match name.as_str() {
            "comment" => Match::Comment(self.value("--comment")?),
            "statistic" => self.statistic()?,
            "recent" => self.recent()?,
            "addrtype" => self.local()?,
            "mark" => self.mark()?,
            "conntrack" => self.state()?,
            "nfacct" => Match::Account(self.value("--nfacct-name")?),
            name => return self.ports(Transport::named(name)?),
        };
        self.rule.matches.push(read);
        Some(())
    }

    /// The ports may come later, behind options that are no match's.
    fn ports(&mut self, transport: Transport) -> Option<()> {
        while let Some(word) = self.words.peek() {
            match word.as_str() {
                "-s" | "-d" | "-i" | "-p" => drop(self.option()?),
                "!" => {
                    let rest: Vec<_> = self.words.clone().take(2).collect();
                    let general = rest
                        .get(1)
                        .is_some_and(|it| ["-s", "-d", "-i"].contains(&it.as_str()));
                    if !general {
                        break;
                    }
                    self.option()?;
                }
                _ => break,
            }
        }
        let ports = match self.given("--dport") {
            Some(ports) => Some(range(&ports?)?),
            None => None,
        };
        self.rule.matches.push(Match::Ports(transport, ports));
        Some(())
    }

    fn statistic(&mut self) -> Option<Match> {
        (self.value("--mode")? == "random").then_some(())?;
        let share: f64 = self.value("--probability")?.parse().ok()?;
        (0.0..1.0).contains(&share).then_some(())?;
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "at least 0 and at the most 2^31"
        )]
        let scaled = (share * PROBABILITY).round() as u32;
        Some(Match::Statistic(scaled))
    }

    fn recent(&mut self) -> Option<Match> {
        let (mut name, mut set, mut check, mut reap) = (None, false, false, false);
        let mut seconds = 0;
        while let Some(option) = self.words.next_if(|it| it.starts_with("--")) {
            match option.as_str() {
                "--name" => name = Some(self.words.next()?),
                "--set" => set = true,
                "--rcheck" => check = true,
                "--reap" => reap = true,
                "--seconds" => seconds = self.words.next()?.parse().ok()?,
                "--rsource" => {}
                "--mask" => {
                    let mask: IpAddr = self.words.next()?.parse().ok()?;
                    (mask == all_bits(self.family)).then_some(())?;
                }
                _ => return None,
            }
        }
        let name = name?;
        match (set, check) {
            (true, false) if seconds == 0 && !reap => Some(Match::Remember(name)),
            (false, true) => Some(Match::Remembered {
                name,
                seconds,
                reap,
            }),
            _ => None,
        }
    }

    fn local(&mut self) -> Option<Match> {
        let source = match self.words.next()?.as_str() {
            "--src-type" => true,
            "--dst-type" => false,
            _ => return None,
        };
        (self.words.next()? == "LOCAL").then_some(Match::Local { source })
    }

    fn mark(&mut self) -> Option<Match> {
        let negated = self.words.next_if(|it| it == "!").is_some();
        let (value, mask) = masked(&self.value("--mark")?)?;
        Some(Match::Mark {
            negated,
            value,
            mask,
        })
    }

    fn state(&mut self) -> Option<Match> {
        let negated = self.words.next_if(|it| it == "!").is_some();
        let list = self.value("--ctstate")?;
        let states = list.split(',').try_fold(0, |states, name| {
            let (_, bit) = STATES.iter().find(|(known, _)| *known == name)?;
            Some(states | bit)
        })?;
        Some(Match::State { negated, states })
    }

    fn target(&mut self) -> Option<Target> {
        let name = self.words.next()?;
        Some(match name.as_str() {
            "ACCEPT" => Target::Accept,
            "DROP" => Target::Drop,
            "RETURN" => Target::Return,
            "REJECT" => {
                if let Some(with) = self.given("--reject-with") {
                    UNREACHABLE.contains(&with?.as_str()).then_some(())?;
                }
                Target::Reject
            }
            "MARK" => self.set_mark()?,
            "MASQUERADE" => Target::Masquerade {
                fully_random: self.words.next_if(|it| it == "--random-fully").is_some(),
            },
            "DNAT" => {
                let to: SocketAddr = self.value("--to-destination")?.parse().ok()?;
                (Family::of(&to.ip()) == self.family).then_some(())?;
                Target::Dnat(to)
            }
            // Other targets are written like this, chains as they like.
            _ if name.bytes().all(|it| it.is_ascii_uppercase()) => return None,
            _ => Target::Jump(name),
        })
    }

    fn set_mark(&mut self) -> Option<Target> {
        let option = self.words.next()?;
        let given = self.words.next()?;
        let (value, mask) = match option.as_str() {
            "--set-xmark" => masked(&given)?,
            "--or-mark" => (number(&given)?, number(&given)?),
            "--xor-mark" => (number(&given)?, 0),
            _ => return None,
        };
        Some(Target::Mark { value, mask })
    }

    /// The value of an option that has to come.
    fn value(&mut self, option: &str) -> Option<String> {
        self.given(option)?
    }

    /// The value of an option if that comes next; `Some(None)` if there is no value.
    fn given(&mut self, option: &str) -> Option<Option<String>> {
        self.words.next_if(|it| it == option)?;
        Some(self.words.next())
    }
}

// === impl Match ===

impl Match {
    fn write(&self, family: Family, f: &mut String) -> fmt::Result {
        match self {
            Self::Comment(comment) => write!(f, "-m comment --comment {} ", words::quote(comment)),
            Self::Ports(transport, None) => write!(f, "-m {} ", transport.name()),
            Self::Ports(transport, Some((first, last))) if first == last => {
                write!(f, "-m {} --dport {first} ", transport.name())
            }
            Self::Ports(transport, Some((first, last))) => {
                write!(f, "-m {} --dport {first}:{last} ", transport.name())
            }
            Self::Statistic(share) => {
                let share = f64::from(*share) / PROBABILITY;
                write!(f, "-m statistic --mode random --probability {share:.11} ")
            }
            Self::Remember(name) => {
                let mask = all_bits(family);
                write!(f, "-m recent --set --name {name} --mask {mask} --rsource ")
            }
            Self::Remembered {
                name,
                seconds,
                reap,
            } => {
                f.write_str("-m recent --rcheck ")?;
                if *seconds > 0 {
                    write!(f, "--seconds {seconds} ")?;
                }
                f.write_str(if *reap { "--reap " } else { "" })?;
                let mask = all_bits(family);
                write!(f, "--name {name} --mask {mask} --rsource ")
            }
            Self::Local { source: true } => f.write_str("-m addrtype --src-type LOCAL "),
            Self::Local { source: false } => f.write_str("-m addrtype --dst-type LOCAL "),
            Self::Mark {
                negated,
                value,
                mask,
            } => {
                write!(f, "-m mark {}--mark {value:#x}", not(*negated))?;
                if *mask != u32::MAX {
                    write!(f, "/{mask:#x}")?;
                }
                f.write_char(' ')
            }
            Self::State { negated, states } => {
                let (not, names) = (not(*negated), state_names(*states));
                write!(f, "-m conntrack {not}--ctstate {names} ")
            }
            Self::Account(name) => write!(f, "-m nfacct --nfacct-name {name} "),
        }
    }
}

// === impl Target ===

impl Target {
    fn write(&self, family: Family, f: &mut String) -> fmt::Result {
        match self {
            Self::Accept => f.write_str("-j ACCEPT"),
            Self::Drop => f.write_str("-j DROP"),
            Self::Return => f.write_str("-j RETURN"),
            Self::Jump(chain) => write!(f, "-j {chain}"),
            Self::Mark { value, mask } => write!(f, "-j MARK --set-xmark {value:#x}/{mask:#x}"),
            Self::Masquerade { fully_random: true } => f.write_str("-j MASQUERADE --random-fully"),
            Self::Masquerade {
                fully_random: false,
            } => f.write_str("-j MASQUERADE"),
            Self::Dnat(to) => write!(f, "-j DNAT --to-destination {to}"),
            Self::Reject => {
                let with = match family {
                    Family::V4 => "icmp-port-unreachable",
                    Family::V6 => "icmp6-port-unreachable",
                };
                write!(f, "-j REJECT --reject-with {with}")
            }
        }
    }
}

fn state_names(states: u16) -> String {
    let names = STATES.iter().filter(|(_, bit)| states & bit != 0);
    let names: Vec<_> = names.map(|(name, _)| *name).collect();
    names.join(",")
}

const fn not(negated: bool) -> &'static str {
    if negated { "! " } else { "" }
}

fn transport(protocol: u8) -> Option<Transport> {
    Transport::ALL.into_iter().find(|it| *it as u8 == protocol)
}

fn protocol(word: &str) -> Option<u8> {
    Transport::named(word).map(|it| it as u8)
}

/// `PORT` or `FIRST:LAST`.
fn range(word: &str) -> Option<(u16, u16)> {
    let (first, last) = word.split_once(':').unwrap_or((word, word));
    let (first, last) = (first.parse().ok()?, last.parse().ok()?);
    (first <= last).then_some((first, last))
}

/// `VALUE/MASK`, or a value of all bits.
fn masked(word: &str) -> Option<(u32, u32)> {
    match word.split_once('/') {
        Some((value, mask)) => Some((number(value)?, number(mask)?)),
        None => Some((number(word)?, u32::MAX)),
    }
}

fn number(word: &str) -> Option<u32> {
    match word.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => word.parse().ok(),
    }
}

fn all_bits(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([u8::MAX; 4]),
        Family::V6 => IpAddr::from([u8::MAX; 16]),
    }
}
