//! Kernel settings below `/proc/sys`, of the network namespace that the calling thread is in.

use std::{fs, path::PathBuf};

use nix::{
    errno::Errno,
    sys::statvfs::{FsFlags, statvfs},
};

use crate::{Error, Result, below::below};

/// The value of a setting, without its closing newline. `key` is its path below `/proc/sys`
/// (`net/ipv4/ip_forward`).
///
/// # Errors
/// EINVAL for a key that leads elsewhere.
pub fn get(key: &str) -> Result<String> {
    let attempted = || format!("sysctl {key}");
    let path = path(key).map_err(|errno| Error::new(attempted(), errno))?;
    fs::read_to_string(path)
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| Error::new(attempted(), error))
}

/// Sets a setting, unless it has the value already (a read-only `/proc/sys` that is right is no error).
/// Answers whether it was changed.
pub fn set(key: &str, value: &str) -> Result<bool> {
    if get(key)? == value {
        return Ok(false);
    }
    let attempted = || format!("sysctl -w {key}={value}");
    let path = path(key).map_err(|errno| Error::new(attempted(), errno))?;
    fs::write(path, value)
        .map(|()| true)
        .map_err(|error| Error::new(attempted(), error))
}

/// Whether none can be set, as in a container that is not privileged: `/proc/sys` is mounted read-only.
pub fn is_read_only() -> Result<bool> {
    let found = statvfs("/proc/sys").map_err(|errno| Error::new("statvfs /proc/sys", errno))?;
    Ok(found.flags().contains(FsFlags::ST_RDONLY))
}

fn path(key: &str) -> std::result::Result<PathBuf, Errno> {
    below("/proc/sys", key)
}
