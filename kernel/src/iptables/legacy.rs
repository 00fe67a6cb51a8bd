//! What the kernel tells of a legacy table without its rules.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::socket::{self, AddressFamily, SockFlag, SockProtocol, SockType},
};

use crate::{Error, Family, Result};

/// `IPT_SO_GET_INFO`, `IP6T_SO_GET_INFO`.
const GET_INFO: libc::c_int = 64;
/// `XT_TABLE_MAXNAMELEN`.
const NAME_LEN: usize = 32;
/// `NF_INET_NUMHOOKS`.
const HOOKS: usize = 5;

/// `struct ipt_getinfo`, which is that of IPv6 too.
#[repr(C)]
struct Info {
    name: [u8; NAME_LEN],
    valid_hooks: u32,
    hook_entry: [u32; HOOKS],
    underflow: [u32; HOOKS],
    entries: u32,
    bytes: u32,
}

/// How much there is in a table: hardly a change leaves both numbers as they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableSize {
    /// Rules, and what the kernel puts around chains.
    pub entries: u32,
    /// All of them in bytes.
    pub bytes: u32,
}

/// The size of a legacy table in the calling thread's network namespace, at the cost of two system calls
/// whatever is in it; `None` if the kernel has no such table.
///
/// # Errors
/// If the kernel can't be asked.
pub fn table_size(family: Family, table: &str) -> Result<Option<TableSize>> {
    match get_info(family, table) {
        Ok(info) => Ok(Some(TableSize {
            entries: info.entries,
            bytes: info.bytes,
        })),
        // The module, or the protocol, is not there.
        Err(Errno::ENOENT | Errno::ENOPROTOOPT | Errno::EAFNOSUPPORT) => Ok(None),
        Err(errno) => {
            let attempted = format!("ask for the size of the legacy {family} table {table}");
            Err(Error::new(attempted, errno))
        }
    }
}

fn get_info(family: Family, table: &str) -> Result<Info, Errno> {
    let (domain, level) = match family {
        Family::V4 => (AddressFamily::Inet, libc::SOL_IP),
        Family::V6 => (AddressFamily::Inet6, libc::SOL_IPV6),
    };
    let mut info = Info {
        name: [0; NAME_LEN],
        valid_hooks: 0,
        hook_entry: [0; HOOKS],
        underflow: [0; HOOKS],
        entries: 0,
        bytes: 0,
    };
    let name = info.name.get_mut(..table.len()).ok_or(Errno::ENOENT)?;
    name.copy_from_slice(table.as_bytes());
    let flags = SockFlag::SOCK_CLOEXEC;
    let socket = socket::socket(domain, SockType::Raw, flags, SockProtocol::Raw)?;
    ask(&socket, level, &mut info)?;
    Ok(info)
}

#[allow(unsafe_code)]
fn ask(socket: &OwnedFd, level: libc::c_int, info: &mut Info) -> Result<(), Errno> {
    let mut len = size_of::<Info>() as libc::socklen_t;
    // SAFETY: `info` is as long as `len` says, lives through the call, and any bytes are a value of it.
    let answered = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            level,
            GET_INFO,
            (&raw mut *info).cast(),
            &raw mut len,
        )
    };
    Errno::result(answered).map(drop)
}
