//! The `resolv.conf` that host-local may be told to pass on.

use std::{fs, path::Path};

use crate::model::{Dns, Error};

/// Reads the file that the key `ipam.resolvConf` names.
pub fn read(path: &Path) -> Result<Dns, Error> {
    let text = fs::read_to_string(path)
        .map_err(|error| Error::io(format!("ipam.resolvConf: open {}", path.display()), &error))?;
    Ok(Dns::of_resolv_conf(&text))
}
