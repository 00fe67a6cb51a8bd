//! The way into the kernel: the tables of nf_tables without a program, the legacy ones by the programs. Either way it
//! is known without reading the tables whether somebody else has changed them.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use kernel::{
    Family,
    iptables::{self, Backend, Iptables, NativeTables, TableSize, table_size},
    nft::Handle,
};

use crate::{
    drift::{CannotWatch, Drift},
    generation::Generation,
    plan::iptables::{CANARY, Observed, Table},
};

/// A way into the kernel, for both families.
#[derive(Debug)]
pub enum Way {
    /// nf_tables.
    Native(Native),
    /// The programs: how large each table was when it was left.
    Programs(BTreeMap<(Family, Table), Option<TableSize>>),
}

/// The way by nf_tables.
#[derive(Debug)]
pub struct Native {
    handle: Handle,
    generation: Generation,
    /// Whether somebody else was seen to change what is ours.
    disturbed: Arc<AtomicBool>,
}

// === impl Way ===

impl Way {
    /// Opens the way of a backend, in the calling thread's network namespace.
    pub fn open(backend: Backend) -> kernel::Result<Self> {
        Ok(match backend {
            Backend::Nft => Self::Native(Native {
                handle: Handle::open()?,
                generation: Generation::default(),
                disturbed: Arc::default(),
            }),
            Backend::Legacy => Self::Programs(BTreeMap::new()),
        })
    }

    /// Carries out a text for `iptables-restore --noflush`.
    pub fn restore(&mut self, programs: &Iptables, text: &str) -> iptables::Result<()> {
        match self {
            Self::Native(native) => {
                let taken = NativeTables::new(&mut native.handle, programs).restore(text);
                match taken {
                    Ok(Some(transactions)) => native.generation.passed(transactions),
                    _ => native.generation.forget(),
                }
                taken.map(drop)
            }
            Self::Programs(_) => {
                let restored = programs.restore(text);
                self.note(programs.family());
                restored
            }
        }
    }

    /// Reads the tables of a family.
    pub fn read(&mut self, programs: &Iptables) -> iptables::Result<Observed> {
        let names = Table::ALL.map(Table::name);
        let mut read = match self {
            Self::Native(native) => {
                NativeTables::new(&mut native.handle, programs).save_tables(&names)?
            }
            Self::Programs(_) => programs.save_tables(&names)?,
        };
        let tables = Table::ALL
            .into_iter()
            .filter_map(|table| Some((table, read.remove(table.name())?)));
        let observed = tables.collect();
        self.note(programs.family());
        Ok(observed)
    }

    /// To be called before everything is read: what others change from now on shows.
    pub fn count_from_now(&mut self) {
        if let Self::Native(native) = self {
            native.disturbed.store(false, Ordering::Relaxed);
            native.generation.count_from(native.handle.generation());
        }
    }

    /// Whether the tables are as they were left; not where that can't be said. With the legacy ones, it is
    /// possible that rules were put in the place of others of the same size.
    pub fn is_as_left(&mut self) -> bool {
        match self {
            Self::Native(native) => {
                let same = native.generation.is_still(native.handle.generation());
                if same {
                    // There were more announcements of what is done by us than could be looked at.
                    native.disturbed.store(false, Ordering::Relaxed);
                }
                same
            }
            Self::Programs(sizes) => {
                let same = |((family, table), size): (&(Family, Table), &Option<TableSize>)| {
                    size.is_some() && size_of(*family, *table) == *size
                };
                sizes.iter().all(same)
            }
        }
    }

    /// Whether somebody else was seen to change what is ours since everything was read.
    pub fn is_disturbed(&self) -> bool {
        match self {
            Self::Native(native) => native.disturbed.load(Ordering::Relaxed),
            Self::Programs(_) => false,
        }
    }

    /// Whether nobody has flushed a table; if that can't be told, comparing will say why.
    pub fn has_canary(&mut self, programs: &Iptables) -> bool {
        Table::ALL.into_iter().all(|table| {
            let found = match self {
                Self::Native(native) => {
                    NativeTables::new(&mut native.handle, programs).has_chain(table.name(), CANARY)
                }
                Self::Programs(_) => programs.has_chain(table.name(), CANARY),
            };
            matches!(found, Ok(true))
        })
    }

    /// Watches for what others change, where that is announced.
    pub fn watch(&self) -> Result<Option<Drift>, CannotWatch> {
        match self {
            Self::Native(native) => {
                Drift::of_iptables(&native.handle, Arc::clone(&native.disturbed)).map(Some)
            }
            Self::Programs(_) => Ok(None),
        }
    }

    /// Takes note of how large the tables of a family are.
    fn note(&mut self, family: Family) {
        if let Self::Programs(sizes) = self {
            sizes.extend(Table::ALL.map(|table| ((family, table), size_of(family, table))));
        }
    }
}

fn size_of(family: Family, table: Table) -> Option<TableSize> {
    table_size(family, table.name()).ok().flatten()
}
