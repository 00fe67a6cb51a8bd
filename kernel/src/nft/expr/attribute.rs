//! `enum nft_*_attributes`: the attributes of each kind of expression.

pub(super) const NAME: u16 = 1;
pub(super) const CONTENT: u16 = 2;

pub(super) const DATA_VALUE: u16 = 1;
pub(super) const DATA_VERDICT: u16 = 2;

pub(super) const PAYLOAD_TO: u16 = 1;
pub(super) const PAYLOAD_BASE: u16 = 2;
pub(super) const PAYLOAD_OFFSET: u16 = 3;
pub(super) const PAYLOAD_LEN: u16 = 4;

pub(super) const META_TO: u16 = 1;
pub(super) const META_KEY: u16 = 2;
pub(super) const META_FROM: u16 = 3;

pub(super) const CT_TO: u16 = 1;
pub(super) const CT_KEY: u16 = 2;
pub(super) const CT_DIRECTION: u16 = 3;

pub(super) const COMPARE_FROM: u16 = 1;
pub(super) const COMPARE_OPERATOR: u16 = 2;
pub(super) const COMPARE_DATA: u16 = 3;

pub(super) const BITWISE_FROM: u16 = 1;
pub(super) const BITWISE_TO: u16 = 2;
pub(super) const BITWISE_LEN: u16 = 3;
pub(super) const BITWISE_MASK: u16 = 4;
pub(super) const BITWISE_XOR: u16 = 5;
pub(super) const BITWISE_OPERATION: u16 = 6;

pub(super) const LOOKUP_SET: u16 = 1;
pub(super) const LOOKUP_KEY: u16 = 2;
pub(super) const LOOKUP_TO: u16 = 3;
pub(super) const LOOKUP_FLAGS: u16 = 5;

pub(super) const DYNSET_SET: u16 = 1;
pub(super) const DYNSET_OPERATION: u16 = 3;
pub(super) const DYNSET_KEY: u16 = 4;
pub(super) const DYNSET_DATA: u16 = 5;
pub(super) const DYNSET_TIMEOUT: u16 = 6;
pub(super) const DYNSET_EXPRESSION: u16 = 7;
pub(super) const DYNSET_EXPRESSIONS: u16 = 10;

pub(super) const RANGE_FROM: u16 = 1;
pub(super) const RANGE_OPERATOR: u16 = 2;
pub(super) const RANGE_FIRST: u16 = 3;
pub(super) const RANGE_LAST: u16 = 4;

/// The same of matches (`NFTA_MATCH_*`) and targets (`NFTA_TARGET_*`).
pub(super) const EXTENSION_NAME: u16 = 1;
pub(super) const EXTENSION_REVISION: u16 = 2;
pub(super) const EXTENSION_INFO: u16 = 3;

pub(super) const NUMGEN_TO: u16 = 1;
pub(super) const NUMGEN_MODULUS: u16 = 2;
pub(super) const NUMGEN_KIND: u16 = 3;
pub(super) const NUMGEN_OFFSET: u16 = 4;

pub(super) const IMMEDIATE_TO: u16 = 1;
pub(super) const IMMEDIATE_DATA: u16 = 2;

pub(super) const NAT_KIND: u16 = 1;
pub(super) const NAT_FAMILY: u16 = 2;
pub(super) const NAT_ADDRESS_MIN: u16 = 3;
pub(super) const NAT_ADDRESS_MAX: u16 = 4;
pub(super) const NAT_PORT_MIN: u16 = 5;
pub(super) const NAT_PORT_MAX: u16 = 6;
pub(super) const NAT_FLAGS: u16 = 7;

pub(super) const MASQUERADE_FLAGS: u16 = 1;
pub(super) const MASQUERADE_PORT_MIN: u16 = 2;

pub(super) const REJECT_KIND: u16 = 1;
pub(super) const REJECT_CODE: u16 = 2;

pub(super) const FIB_TO: u16 = 1;
pub(super) const FIB_RESULT: u16 = 2;
pub(super) const FIB_FLAGS: u16 = 3;
