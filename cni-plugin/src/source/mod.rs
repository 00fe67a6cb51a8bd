//! The outside: the environment, and the files that state is kept in.

mod address_index;
mod address_store;
mod atomic_file;
mod environment;
mod foreign_plugin;
mod installation;
mod kept_file;
mod namespace_lock;
mod resolv_conf;
mod scratch;
mod subnet_file;
mod tuning_files;

pub use address_store::{AddressStore, Owned, Reservations};
pub use environment::Environment;
pub use foreign_plugin::ForeignPlugin;
pub use installation::{Placed, install, install_conflist};
pub use namespace_lock::NamespaceLock;
pub use resolv_conf::read as read_resolv_conf;
pub use scratch::Scratch;
pub use subnet_file::read as read_subnet_env;
pub use tuning_files::{BackupFile, read_allowlist};
