//! The outside: the environment, and the files that state is kept in.

mod address_index;
mod address_store;
mod atomic_file;
mod environment;
mod installation;
mod resolv_conf;
mod scratch;
mod subnet_file;

pub use address_store::{AddressStore, Owned, Reservations};
pub use environment::Environment;
pub use installation::{Placed, install};
pub use resolv_conf::read as read_resolv_conf;
pub use scratch::Scratch;
pub use subnet_file::read as read_subnet_env;
