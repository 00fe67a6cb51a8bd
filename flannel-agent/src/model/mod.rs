//! Small parsed types: what the outside says, checked once at the edge.

mod backend;
mod by_family;
mod claim;
mod go_json;
mod host;
mod lease;
mod lease_key;
mod net_conf;
mod node;
mod owner;
mod pool;
mod snapshot;
mod subnet_env;

pub use backend::{Backend, IpipConf, PacketFilter, VxlanConf, WireguardConf, WireguardMode};
pub use by_family::ByFamily;
pub use claim::{Claim, Guard};
pub use host::{Host, Underlay};
pub use lease::{Attributes, BackendData, InvalidLease, LEASE_TTL, Lease, Vtep, WireguardEndpoint};
pub use lease_key::{InvalidLeaseKey, LeaseKey};
pub use net_conf::{InvalidNetConf, NetConf};
pub use node::{NoSubnet, Node, annotation};
pub use owner::{Owner, Owners};
pub use pool::{InvalidPool, Pool};
pub use snapshot::{ChangeLog, Entry, Held, Snapshot, Touched};
pub use subnet_env::SubnetEnv;
