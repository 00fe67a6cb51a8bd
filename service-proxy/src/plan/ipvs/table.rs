//! A table of nftables beside virtual servers.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, SocketAddr},
};

use kernel::{
    Family,
    ipvs::VirtualAddress,
    nft::{ObservedTable, Transaction},
};

use super::{
    Record,
    guard::{Guard, Steps},
    phases::phases,
    record,
};
use crate::{
    model::{ObjectName, Service},
    plan::{
        Balance, Frontend,
        nftables::{self, NodeRules},
    },
};

/// A table of nftables beside virtual servers. What is in it is what [`nftables::Plan`] makes of Services, and the
/// record.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableGuard;

// === impl Guard for TableGuard ===

impl Guard for TableGuard {
    type Ports = ();
    type Observed = Option<ObservedTable>;
    type Change = Transaction;

    fn ports(_: &Service, _: Family, _: &BTreeMap<Frontend, Balance>) {}

    fn settle(&mut self, _: &NodeRules, _: &BTreeSet<IpAddr>) {}

    fn update(
        &mut self,
        _: &nftables::Plan,
        _: BTreeMap<ObjectName, ()>,
        _: &BTreeSet<Frontend>,
        transactions: Vec<Transaction>,
    ) -> Steps<Transaction> {
        steps(transactions)
    }

    fn adopt(&self, services: &mut nftables::Plan, observed: &Self::Observed) {
        if let Some(table) = observed {
            services.adopt(table);
        }
    }

    fn compare(
        &mut self,
        services: &nftables::Plan,
        observed: &Self::Observed,
        record: &Record,
    ) -> Steps<Transaction> {
        let mut table = services.table();
        record::fill(&mut table, record);
        steps(services.differences(observed.as_ref(), table))
    }

    fn note(
        family: Family,
        servers: &[&VirtualAddress],
        addresses: &[IpAddr],
    ) -> Option<Transaction> {
        record::add(family, servers.iter().copied(), addresses)
    }

    fn forget(
        family: Family,
        servers: &[&VirtualAddress],
        addresses: &[IpAddr],
    ) -> Option<Transaction> {
        record::delete(family, servers.iter().copied(), addresses)
    }

    fn record(observed: &Self::Observed) -> Record {
        Record::read(observed.as_ref())
    }

    fn rooms(servers: usize, addresses: usize) -> [u32; 2] {
        record::rooms(servers, addresses)
    }

    fn involved(
        &self,
        services: &nftables::Plan,
        frontend: &Frontend,
        observed: &Self::Observed,
    ) -> Vec<(String, bool)> {
        let stands =
            |it: &nftables::Involved| observed.as_ref().is_some_and(|table| it.stands(table));
        let involved = services.involved(frontend).into_iter();
        involved
            .map(|it| (it.command.clone(), stands(&it)))
            .collect()
    }

    fn kept(
        &self,
        observed: &Self::Observed,
        frontend: &Frontend,
        client: IpAddr,
        _: &dyn Fn(&str, IpAddr) -> bool,
    ) -> Option<SocketAddr> {
        let kept = nftables::kept(observed.as_ref()?, frontend, client);
        kept.map(SocketAddr::from)
    }

    fn joined(mut first: Vec<Transaction>, second: Vec<Transaction>) -> Vec<Transaction> {
        for transaction in second {
            match first.last_mut() {
                Some(last) => last.commands.extend(transaction.commands),
                None => first.push(transaction),
            }
        }
        first
    }
}

fn steps(transactions: Vec<Transaction>) -> Steps<Transaction> {
    let (first, last) = phases(transactions);
    Steps {
        first,
        last,
        outgrown: false,
    }
}
