//! What a runtime or a file said, checked once and then trusted.

mod add_result;
mod args;
mod attachment;
mod bandwidth_conf;
mod bridge_conf;
mod error;
mod flannel_conf;
mod ip_text;
mod ipam_conf;
mod net_conf;
mod owner;
mod portmap_conf;
mod prev_result;
mod range_set;
mod spec_version;
mod subnet_env;
mod sysctl_allowlist;
mod tuning_backup;
mod tuning_conf;
mod valid_attachments;
mod vlans;

pub use add_result::{AddResult, Dns, Interface, IpConfig, Route};
pub use args::Args;
pub use attachment::Attachment;
pub use bandwidth_conf::BandwidthConf;
pub use bridge_conf::{BridgeConf, MasqueradeBackend};
pub use error::{Code, Error};
pub use flannel_conf::FlannelConf;
pub use ip_text::Cidr;
pub use ipam_conf::{IpamConf, IpamLocation};
pub use net_conf::{NetConf, is_valid_name};
pub use owner::Owner;
pub use portmap_conf::{PortMapping, PortmapBackend, PortmapConf};
#[cfg(test)]
pub use range_set::RawRange;
pub use range_set::{Range, RangeSet, number};
pub use spec_version::SpecVersion;
pub use subnet_env::SubnetEnv;
pub use sysctl_allowlist::SysctlAllowlist;
pub use tuning_backup::TuningBackup;
pub use tuning_conf::TuningConf;
pub use valid_attachments::ValidAttachments;
pub use vlans::Vlans;
