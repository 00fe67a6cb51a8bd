//! A transaction as the messages of one nfnetlink batch.

use super::{
    Attributes,
    chain::{add_chain, delete_chain},
    element::{add_elements, delete_elements},
    rule::{add_raw_rule, add_rule, delete_rule, flush_chain, insert_raw_rule},
    set::{add_set, delete_set},
    table::{add_table, delete_table},
};
use crate::{
    netlink::Request,
    nfnetlink::{self, Subsystem},
    nft::{
        BaseChain, Chain, Command, Element, Invalid, Key, RawRule, Rule, Set, TableFamily,
        Transaction,
    },
};

/// `NFNL_MSG_BATCH_BEGIN`, `NFNL_MSG_BATCH_END`.
const BATCH_BEGIN: u16 = 16;
const BATCH_END: u16 = 17;
/// `NFNL_BATCH_GENID`.
const GENERATION: u16 = 1;

/// Elements in one message. An element has at the most 64 bytes of key, 64 of data or a chain's name of
/// 256, a comment of 130, and 60 of headers: so many fit the 64 KiB of an attribute for certain.
const ELEMENTS: usize = 100;

/// The part of a command that is one message.
#[derive(Clone, Debug)]
pub(in crate::nft) enum Step<'a> {
    /// With the comment.
    AddTable(Option<&'a str>),
    DeleteTable,
    /// With where the kernel calls it, and the comment.
    AddChain(&'a str, Option<&'a BaseChain>, Option<&'a str>),
    FlushChain(&'a str),
    DeleteChain(&'a str),
    AddRule(&'a str, &'a Rule),
    AddRawRule(&'a str, &'a RawRule),
    InsertRawRule(&'a str, &'a RawRule),
    DeleteRule(&'a str, u64),
    /// Without its elements.
    AddSet(&'a str, &'a Set),
    DeleteSet(&'a str),
    AddElements(&'a str, Vec<(&'a Key, &'a Element)>),
    DeleteElements(&'a str, Vec<&'a Key>),
}

/// Takes the commands of a transaction apart.
pub(in crate::nft) fn steps(transaction: &Transaction) -> Vec<Step<'_>> {
    transaction.commands.iter().flat_map(steps_of).collect()
}

fn steps_of(command: &Command) -> Vec<Step<'_>> {
    match command {
        Command::AddTable => vec![Step::AddTable(None)],
        Command::AddCommentedTable(comment) => vec![Step::AddTable(Some(comment))],
        Command::DeleteTable => vec![Step::DeleteTable],
        Command::AddChain(name, chain) => chain_steps(name, chain, None),
        Command::AddCommentedChain(name, chain, comment) => chain_steps(name, chain, Some(comment)),
        Command::FlushChain(name) => vec![Step::FlushChain(name)],
        Command::DeleteChain(name) => vec![Step::DeleteChain(name)],
        Command::AddRule(chain, rule) => vec![Step::AddRule(chain, rule)],
        Command::AddRawRule(chain, rule) => vec![Step::AddRawRule(chain, rule)],
        Command::InsertRawRule(chain, rule) => vec![Step::InsertRawRule(chain, rule)],
        Command::DeleteRule(chain, handle) => vec![Step::DeleteRule(chain, *handle)],
        Command::AddSet(name, set) => {
            let mut steps = vec![Step::AddSet(name, set)];
            steps.extend(add_steps(name, set.elements.iter().collect()));
            steps
        }
        Command::DeleteSet(name) => vec![Step::DeleteSet(name)],
        Command::AddElements(set, elements) => add_steps(
            set,
            elements
                .iter()
                .map(|(key, element)| (key, element))
                .collect(),
        ),
        Command::DeleteElements(set, keys) => keys
            .chunks(ELEMENTS)
            .map(|keys| Step::DeleteElements(set, keys.iter().collect()))
            .collect(),
    }
}

fn chain_steps<'a>(name: &'a str, chain: &'a Chain, comment: Option<&'a str>) -> Vec<Step<'a>> {
    let mut steps = vec![Step::AddChain(name, chain.base.as_ref(), comment)];
    steps.extend(chain.rules.iter().map(|rule| Step::AddRule(name, rule)));
    steps
}

fn add_steps<'a>(set: &'a str, elements: Vec<(&'a Key, &'a Element)>) -> Vec<Step<'a>> {
    elements
        .chunks(ELEMENTS)
        .map(|elements| Step::AddElements(set, elements.to_vec()))
        .collect()
}

/// The message of a step. `index` is its place in the batch.
pub(in crate::nft) fn encode(
    family: TableFamily,
    table: &str,
    step: &Step<'_>,
    index: usize,
) -> Result<Request, Invalid> {
    match step {
        Step::AddTable(comment) => add_table(family, table, *comment),
        Step::DeleteTable => delete_table(family, table),
        Step::AddChain(name, base, comment) => add_chain(family, table, name, *base, *comment),
        Step::FlushChain(name) => flush_chain(family, table, name),
        Step::DeleteChain(name) => delete_chain(family, table, name),
        Step::AddRule(chain, rule) => add_rule(family, table, chain, rule),
        Step::AddRawRule(chain, rule) => add_raw_rule(family, table, chain, rule),
        Step::InsertRawRule(chain, rule) => insert_raw_rule(family, table, chain, rule),
        Step::DeleteRule(chain, handle) => delete_rule(family, table, chain, *handle),
        Step::AddSet(name, set) => add_set(family, table, name, set, index as u32),
        Step::DeleteSet(name) => delete_set(family, table, name),
        Step::AddElements(set, elements) => add_elements(family, table, set, elements),
        Step::DeleteElements(set, keys) => delete_elements(family, table, set, keys),
    }
}

/// The message before the batch. With a generation, the kernel refuses the batch by ERESTART if that is no
/// longer the rule set's.
pub(in crate::nft) fn begin(generation: Option<u32>) -> Result<Request, Invalid> {
    let attributes = match generation {
        Some(generation) => Attributes::default().u32(GENERATION, generation),
        None => Attributes::default(),
    };
    let mut request = border(BATCH_BEGIN);
    request.body.extend(attributes.finish()?);
    Ok(request)
}

/// The message after the batch.
pub(in crate::nft) fn end() -> Request {
    border(BATCH_END)
}

fn border(kind: u16) -> Request {
    Request {
        kind,
        flags: 0,
        body: nfnetlink::header(0, Subsystem::Tables as u16).to_vec(),
    }
}
