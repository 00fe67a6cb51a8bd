//! The network configuration in a file (`--net-config-path`), where Kubernetes gives out the subnets.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use crate::model::{InvalidNetConf, NetConf};

/// The file is no use.
#[derive(Debug, thiserror::Error)]
pub enum InvalidFile {
    /// It can't be read.
    #[error("failed to read net conf {} (--net-config-path): {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the kernel says.
        cause: io::Error,
    },
    /// It is no network configuration.
    #[error("{} (--net-config-path): {cause}", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        cause: InvalidNetConf,
    },
}

/// Reads the network configuration.
pub fn read_net_conf(path: &Path) -> Result<NetConf, InvalidFile> {
    let text = fs::read(path).map_err(|cause| InvalidFile::Unreadable {
        path: path.to_owned(),
        cause,
    })?;
    NetConf::parse(&text).map_err(|cause| InvalidFile::Invalid {
        path: path.to_owned(),
        cause,
    })
}
