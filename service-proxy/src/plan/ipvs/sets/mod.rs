//! The ipsets of IPVS mode, under kube-proxy's names.

mod former;
mod name;

pub use former::Former;
pub use name::SetName;
