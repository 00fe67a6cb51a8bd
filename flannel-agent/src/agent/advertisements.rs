//! Keeping pods of other nodes from configuring this one by IPv6 router advertisements (`accept_ra`, spec 1.7): by the
//! kernel's setting for a device, and by a rule of nftables where `/proc/sys` is read-only, as it is in a container that
//! is not privileged.

use kernel::{IfName, nft, sysctl};
use nix::errno::Errno;

use super::Site;
use crate::plan;

/// Has a device ignore them, where that can be set. A kernel without IPv6 has no such setting.
pub fn ignore(device: &IfName) -> kernel::Result<()> {
    let key = format!("net/ipv6/conf/{device}/accept_ra");
    match sysctl::set(&key, "0") {
        Err(error) if error.is_not_found() || error.errno() == Some(Errno::EROFS) => Ok(()),
        other => other.map(drop),
    }
}

/// The devices that it can't be set for.
pub fn not_to_set(site: &Site) -> kernel::Result<Vec<IfName>> {
    let no_ipv6 = match sysctl::get("net/ipv6/conf/all/accept_ra") {
        Err(error) if error.is_not_found() => true,
        other => other.map(|_| false)?,
    };
    if no_ipv6 || !sysctl::is_read_only()? {
        return Ok(Vec::new());
    }
    let devices = site.overlays().iter();
    let devices = devices.filter_map(|(_, it)| it.device.as_ref());
    Ok(devices.map(|device| device.name.clone()).collect())
}

/// Has those dropped that come in by these devices, and no others. Answers with how much had to be changed.
pub fn drop_by_rule(devices: &[IfName]) -> kernel::Result<u64> {
    let mut kernel = nft::Handle::open()?;
    match plan::advertisements_table(devices) {
        Some(table) => kernel.reconcile(&table)?,
        None => remove(&mut kernel)?,
    }
    Ok(kernel.sent())
}

/// Removes what drops them.
pub fn remove(kernel: &mut nft::Handle) -> kernel::Result<()> {
    let (family, name) = (kernel::Family::V6, plan::ADVERTISEMENTS_TABLE);
    if kernel.read(family, name)?.is_some() {
        kernel.delete_table_if_present(family, name)?;
    }
    Ok(())
}
