//! The way into the kernel.

use std::collections::BTreeMap;

use nix::errno::Errno;

use super::{
    Command, ObservedChain, ObservedSet, ObservedTable, Transaction,
    text::StepText,
    wire::{self, Step},
};
use crate::{
    Error, Family, Result,
    netlink::{self, Protocol, Reply, Request, Socket},
    netns::Namespace,
};

/// How often a table is read again that changed while it was read.
const ATTEMPTS: usize = 10;

/// Reads and changes the tables of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

impl Handle {
    /// Works on the calling thread's network namespace.
    pub fn open() -> Result<Self> {
        Socket::open(Protocol::Netfilter)
            .map(|socket| Self { socket })
            .map_err(|error| Error::new("open a netfilter netlink socket", error))
    }

    /// Works on another network namespace.
    pub fn open_in(namespace: &Namespace) -> Result<Self> {
        namespace.run(Self::open)?
    }

    /// Carries out a transaction, all or nothing.
    ///
    /// # Errors
    /// If the kernel refuses a command: the error names it as nft(8) would write it.
    pub fn apply(&mut self, transaction: &Transaction) -> Result<()> {
        self.send(transaction, None)
    }

    /// Carries out a transaction, but only if no rule of the network namespace was changed since
    /// [`ObservedTable::generation`] was read.
    ///
    /// # Errors
    /// As [`Self::apply`]; [`Error::is_stale`] if something was changed.
    pub fn apply_at(&mut self, generation: u32, transaction: &Transaction) -> Result<()> {
        self.send(transaction, Some(generation))
    }

    /// Deletes a table with all that is in it; answers whether there was one.
    pub fn delete_table_if_present(&mut self, family: Family, table: &str) -> Result<bool> {
        let transaction = Transaction {
            family,
            table: table.to_owned(),
            commands: vec![Command::DeleteTable],
        };
        match self.apply(&transaction) {
            Ok(()) => Ok(true),
            Err(error) if error.is_not_found() => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Reads a table as it was at one moment; `None` if it does not exist.
    pub fn read(&mut self, family: Family, table: &str) -> Result<Option<ObservedTable>> {
        self.read_consistently(family, table).map_err(|error| {
            let family = match family {
                Family::V4 => "ip",
                Family::V6 => "ip6",
            };
            Error::new(format!("nft list table {family} {table}"), error)
        })
    }

    /// How many changing messages were sent so far.
    pub fn sent(&self) -> u64 {
        self.socket.sent()
    }

    fn send(&mut self, transaction: &Transaction, generation: Option<u32>) -> Result<()> {
        let steps = wire::steps(transaction);
        if steps.is_empty() {
            return Ok(());
        }
        let refused = |step: &Step<'_>, error: netlink::Error| {
            let (family, table) = (transaction.family, &transaction.table);
            let text = StepText {
                family,
                table,
                step,
                short: true,
            };
            let hint = match (step, error.errno()) {
                (Step::AddElements(..), Some(Errno::ENFILE)) => " (the set is full)",
                _ => "",
            };
            Error::new(format!("nft {text}{hint}"), error)
        };
        let requests = steps
            .iter()
            .enumerate()
            .map(|(index, step)| {
                wire::encode(transaction.family, &transaction.table, step, index)
                    .map_err(|invalid| refused(step, invalid.into()))
            })
            .collect::<Result<Vec<Request>>>()?;
        let whole = |error| Error::new(describe_batch(transaction, &requests, &error), error);
        let begin = wire::begin(generation).map_err(|invalid| whole(invalid.into()))?;
        match self.socket.atomic(&begin, &requests, &wire::end()) {
            Ok(()) => Ok(()),
            Err((index, error)) => Err(match index.and_then(|index| steps.get(index)) {
                Some(step) => refused(step, error),
                None => whole(error),
            }),
        }
    }

    fn read_consistently(
        &mut self,
        family: Family,
        table: &str,
    ) -> netlink::Result<Option<ObservedTable>> {
        let mut before = self.generation()?;
        for _ in 0..ATTEMPTS {
            let read = self.read_once(family, table, before);
            let after = self.generation()?;
            if before == after {
                return read;
            }
            before = after;
        }
        Err(netlink::Error::KeepsChanging)
    }

    fn generation(&mut self) -> netlink::Result<u32> {
        let replies = self.socket.get(&wire::get_generation()?)?;
        wire::decode_generation(&replies)
    }

    fn read_once(
        &mut self,
        family: Family,
        table: &str,
        generation: u32,
    ) -> netlink::Result<Option<ObservedTable>> {
        let Some(dormant) = self.read_flags(family, table)? else {
            return Ok(None);
        };
        Ok(Some(ObservedTable {
            family,
            name: table.to_owned(),
            generation,
            dormant,
            chains: self.read_chains(family, table)?,
            sets: self.read_sets(family, table)?,
        }))
    }

    /// Whether the table is dormant; `None` if it does not exist.
    fn read_flags(&mut self, family: Family, table: &str) -> netlink::Result<Option<bool>> {
        let replies = match self.socket.get(&wire::get_table(family, table)?) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        let decoded = decode(&replies, |reply| wire::decode_table(family, table, reply))?;
        Ok(decoded.first().copied())
    }

    fn read_chains(
        &mut self,
        family: Family,
        table: &str,
    ) -> netlink::Result<BTreeMap<String, ObservedChain>> {
        let replies = self.socket.dump(&wire::dump_chains(family)?)?;
        let mut chains: BTreeMap<String, ObservedChain> =
            decode(&replies, |reply| wire::decode_chain(family, table, reply))?
                .into_iter()
                .map(|(name, base)| {
                    (
                        name,
                        ObservedChain {
                            base,
                            rules: Vec::new(),
                        },
                    )
                })
                .collect();
        let replies = self.socket.dump(&wire::dump_rules(family, table)?)?;
        for (chain, rule) in decode(&replies, |reply| wire::decode_rule(family, table, reply))? {
            chains.entry(chain).or_default().rules.push(rule);
        }
        Ok(chains)
    }

    fn read_sets(
        &mut self,
        family: Family,
        table: &str,
    ) -> netlink::Result<BTreeMap<String, ObservedSet>> {
        let replies = self.socket.dump(&wire::dump_sets(family, table)?)?;
        let mut sets = BTreeMap::new();
        for (name, set) in decode(&replies, |reply| wire::decode_set(family, table, reply))? {
            let ObservedSet::Known(mut set) = set else {
                sets.insert(name, set);
                continue;
            };
            let replies = self
                .socket
                .dump(&wire::dump_elements(family, table, &name)?)?;
            let set = match wire::decode_elements(family, &set, &replies)? {
                Some(elements) => {
                    set.elements = elements;
                    ObservedSet::Known(set)
                }
                None => ObservedSet::Foreign,
            };
            sets.insert(name, set);
        }
        Ok(sets)
    }
}

/// What was attempted when it was not a single command that failed, and what to do where the batch is too
/// large.
fn describe_batch(
    transaction: &Transaction,
    requests: &[Request],
    error: &netlink::Error,
) -> String {
    let batch = format!(
        "apply {} commands to nftables table {:?} ({}) in one batch",
        requests.len(),
        transaction.table,
        transaction.family,
    );
    match error.errno() {
        Some(Errno::EMSGSIZE | Errno::ENOBUFS | Errno::ENOMEM) => {
            let bytes: usize = requests.iter().map(|request| request.body.len()).sum();
            format!(
                "{batch} (its {bytes} bytes do not fit the socket's buffers; as root of the first user \
                 namespace 16 MiB do, otherwise raise net.core.wmem_max and net.core.rmem_max)"
            )
        }
        _ => batch,
    }
}

/// What the replies say, leaving out those that are about something else.
fn decode<T>(
    replies: &[Reply],
    decode: impl Fn(&Reply) -> netlink::Result<Option<T>>,
) -> netlink::Result<Vec<T>> {
    replies
        .iter()
        .filter_map(|reply| decode(reply).transpose())
        .collect()
}
