//! Kernel settings below `/proc/sys`, of the network namespace that the calling thread is in.

use std::{fs, path::PathBuf};

use nix::errno::Errno;

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

fn path(key: &str) -> std::result::Result<PathBuf, Errno> {
    below("/proc/sys", key)
}
