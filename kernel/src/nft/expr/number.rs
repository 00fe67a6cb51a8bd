//! Numbers that have no type of their own.

/// `enum nft_cmp_ops`.
pub(super) const EQUAL: u32 = 0;
pub(super) const NOT_EQUAL: u32 = 1;
/// `NFT_BITWISE_MASK_XOR`.
pub(super) const MASK_XOR: u32 = 0;
/// `NFT_LOOKUP_F_INV`.
pub(super) const INVERTED: u32 = 1;
/// `NFT_NG_RANDOM`.
pub(super) const RANDOM: u32 = 1;
/// `NFT_NAT_DNAT`.
pub(super) const DNAT: u32 = 1;
/// `NF_NAT_RANGE_MAP_IPS | NF_NAT_RANGE_PROTO_SPECIFIED`: the kernel sets them itself.
pub(super) const IMPLIED_FLAGS: u32 = 3;
/// `NFTA_FIB_F_SADDR`, `NFTA_FIB_F_DADDR`.
pub(super) const FIB_SOURCE: u32 = 1;
pub(super) const FIB_DESTINATION: u32 = 2;
/// `NFT_FIB_RESULT_ADDRTYPE`.
pub(super) const FIB_ADDRESS_TYPE: u32 = 3;
/// `NFT_REG_VERDICT`.
pub(super) const VERDICT_REGISTER: u32 = 0;
