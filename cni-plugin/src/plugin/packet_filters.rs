//! Which of iptables and nftables a node has.

use kernel::{Family, iptables::Iptables, nft};

/// Whether nftables can be used and iptables can't: then it is taken unasked, as the reference does.
pub fn is_nftables_the_only_one() -> bool {
    let iptables = Iptables::of_node(Family::V4).and_then(|it| it.save("filter"));
    // Any name will do: whether the kernel answers is asked, not what.
    let reads = |mut handle: nft::Handle| handle.read(Family::V4, "filter");
    iptables.is_err() && nft::Handle::open().and_then(reads).is_ok()
}
