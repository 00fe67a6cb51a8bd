//! Kernel settings below `/proc/sys`, of the network namespace that the calling thread is in.

use std::{fs, path::PathBuf};

use crate::{Error, Result};

/// The value of a setting, without its closing newline. `key` is its path below `/proc/sys`
/// (`net/ipv4/ip_forward`).
pub fn get(key: &str) -> Result<String> {
    fs::read_to_string(path(key))
        .map(|text| text.trim_end().to_owned())
        .map_err(|error| Error::new(format!("sysctl {key}"), error))
}

/// Sets a setting, unless it has the value already (a read-only `/proc/sys` that is right is no error).
/// Answers whether it was changed.
pub fn set(key: &str, value: &str) -> Result<bool> {
    if get(key)? == value {
        return Ok(false);
    }
    fs::write(path(key), value)
        .map(|()| true)
        .map_err(|error| Error::new(format!("sysctl -w {key}={value}"), error))
}

fn path(key: &str) -> PathBuf {
    PathBuf::from("/proc/sys").join(key)
}
