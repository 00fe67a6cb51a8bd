//! Tables, and the generation of the whole rule set.

use netlink_packet_core::NLM_F_CREATE;

use super::{Attributes, Message, attributes_of, missing, required_text, userdata};
use crate::{
    netlink::{Reply, Request, Result},
    nft::{Invalid, TableFamily},
};

/// `enum nft_table_attributes`.
const NAME: u16 = 1;
const FLAGS: u16 = 2;
const USER_DATA: u16 = 6;
/// `NFT_TABLE_F_DORMANT`.
const DORMANT: u32 = 1;

/// `NFTA_GEN_ID`.
const GENERATION: u16 = 1;

/// Makes a table, or wakes one that is dormant.
pub(super) fn add_table(
    family: TableFamily,
    name: &str,
    comment: Option<&str>,
) -> Result<Request, Invalid> {
    let attributes = Attributes::default().text(NAME, name).u32(FLAGS, 0);
    let attributes = userdata::commented(attributes, USER_DATA, comment)?;
    Message::NewTable.request(NLM_F_CREATE, Some(family), attributes)
}

pub(super) fn delete_table(family: TableFamily, name: &str) -> Result<Request, Invalid> {
    Message::DeleteTable.request(0, Some(family), Attributes::default().text(NAME, name))
}

/// Asks for one table.
pub(in crate::nft) fn get_table(family: TableFamily, name: &str) -> Result<Request, Invalid> {
    Message::GetTable.request(0, Some(family), Attributes::default().text(NAME, name))
}

/// Whether a table is dormant; `None` if the reply is about something else.
pub(in crate::nft) fn decode_table(
    family: TableFamily,
    name: &str,
    reply: &Reply,
) -> Result<Option<bool>> {
    let Some(view) = attributes_of(reply, Message::NewTable, Some(family)) else {
        return Ok(None);
    };
    if required_text(view, NAME, "table name")? != name {
        return Ok(None);
    }
    Ok(Some(view.u32(FLAGS).unwrap_or_default() & DORMANT != 0))
}

/// Asks for the generation of the rule set: a number that every committed batch raises.
pub(in crate::nft) fn get_generation() -> Result<Request, Invalid> {
    Message::GetGeneration.request(0, None, Attributes::default())
}

pub(in crate::nft) fn decode_generation(replies: &[Reply]) -> Result<u32> {
    replies
        .iter()
        .find_map(|reply| attributes_of(reply, Message::NewGeneration, None)?.u32(GENERATION))
        .ok_or_else(|| missing("generation"))
}
