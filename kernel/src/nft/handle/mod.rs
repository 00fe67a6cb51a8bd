//! The way into the kernel.

mod read;

use nix::errno::Errno;

use super::{
    BaseChain, Command, ObservedRule, ObservedTable, Table, TableFamily, Transaction, diff,
    text::StepText,
    wire::{self, Step},
};
use crate::{
    Error, Result,
    netlink::{self, Request, Socket},
};

/// How often a table is read again that changed while it was read.
const ATTEMPTS: usize = 10;

/// Reads and changes the tables of one network namespace.
#[derive(Debug)]
pub struct Handle {
    socket: Socket,
}

// === impl Handle ===

netlink::opens!(Handle, Netfilter);

impl Handle {
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

    /// Makes a table what is wanted, whatever stands; sends nothing if it is that already.
    ///
    /// # Errors
    /// If the kernel refuses a command, or others keep changing rules: [`Error::is_stale`].
    pub fn reconcile(&mut self, want: &Table) -> Result<()> {
        let mut outcome = Ok(());
        for _ in 0..ATTEMPTS {
            outcome = self.reconcile_once(want);
            if !outcome.as_ref().is_err_and(Error::is_stale) {
                break;
            }
        }
        outcome
    }

    /// Deletes a table with all that is in it; answers whether there was one.
    pub fn delete_table_if_present(
        &mut self,
        family: impl Into<TableFamily>,
        table: &str,
    ) -> Result<bool> {
        let transaction = Transaction {
            family: family.into(),
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
    pub fn read(
        &mut self,
        family: impl Into<TableFamily>,
        table: &str,
    ) -> Result<Option<ObservedTable>> {
        let family = family.into();
        self.read_consistently(family, table)
            .map_err(|error| Error::new(format!("nft list table {family} {table}"), error))
    }

    /// Whether there is a chain, at the cost of one message.
    pub fn has_chain(
        &mut self,
        family: impl Into<TableFamily>,
        table: &str,
        chain: &str,
    ) -> Result<bool> {
        let family = family.into();
        let asked = wire::get_chain(family, table, chain).map_err(netlink::Error::from);
        match asked.and_then(|request| self.socket.get(&request)) {
            Ok(_) => Ok(true),
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(false),
            Err(error) => Err(Error::new(
                format!("nft list chain {family} {table} {chain}"),
                error,
            )),
        }
    }

    /// The names of a table's chains, with where the kernel calls them; none if it does not exist.
    pub fn chains(
        &mut self,
        family: impl Into<TableFamily>,
        table: &str,
    ) -> Result<Vec<(String, Option<BaseChain>)>> {
        let family = family.into();
        self.read_bases(family, table)
            .map_err(|error| Error::new(format!("nft list chains {family}"), error))
    }

    /// What is to be kept of each rule of a table, or of one of its chains, with the name of its chain;
    /// nothing if there is none. For tables that are too large to be read as they are.
    pub fn rules<T>(
        &mut self,
        family: impl Into<TableFamily>,
        table: &str,
        chain: Option<&str>,
        keep: impl Fn(String, ObservedRule) -> T,
    ) -> Result<Vec<T>> {
        let family = family.into();
        self.read_rules(family, table, chain, keep)
            .or_else(|error| match error.errno() {
                Some(Errno::ENOENT) => Ok(Vec::new()),
                _ => Err(error),
            })
            .map_err(|error| Error::new(format!("nft list table {family} {table}"), error))
    }

    /// The generation of the network namespace's whole rule set: a number that every change raises by one, to
    /// whatever table, and that is never 0.
    pub fn generation(&mut self) -> Result<u32> {
        self.read_generation()
            .map_err(|error| Error::new("read the generation of the nftables rule set", error))
    }

    pub(super) fn socket(&self) -> &Socket {
        &self.socket
    }

    /// How many changing messages were sent so far.
    pub fn sent(&self) -> u64 {
        self.socket.sent()
    }

    /// Only the first transaction depends on all that was read; a second one is refused by itself where it
    /// does not fit.
    fn reconcile_once(&mut self, want: &Table) -> Result<()> {
        let have = self.read(want.family, &want.name)?;
        let mut generation = have.as_ref().map(|have| have.generation);
        for transaction in diff(have.as_ref(), want) {
            self.send(&transaction, generation.take())?;
        }
        Ok(())
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
