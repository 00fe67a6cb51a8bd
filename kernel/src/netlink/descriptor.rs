//! Opening a netlink socket and switching its options.

use std::os::fd::{AsRawFd, OwnedFd};

use nix::{
    errno::Errno,
    sys::socket::{
        self, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, setsockopt,
        sockopt,
    },
};

use super::{Protocol, Result};

/// Wanted size of both buffers, in bytes. Allocated only as it is used.
const BUFFER_BYTES: usize = 16 << 20;
/// Largest message that the kernel puts into one dump answer or announcement, rounded up.
pub(super) const RECEIVE_BYTES: usize = 64 << 10;

/// Opens and binds a socket in the calling thread's network namespace.
pub(super) fn open(protocol: Protocol, flags: SockFlag) -> Result<OwnedFd> {
    let protocol = match protocol {
        Protocol::Route => SockProtocol::NetlinkRoute,
        Protocol::Netfilter => SockProtocol::NetlinkNetFilter,
        Protocol::Generic => SockProtocol::NetlinkGeneric,
    };
    let fd = socket::socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC | flags,
        protocol,
    )?;
    socket::bind(fd.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    grow_buffers(&fd);
    Ok(fd)
}

/// Switches an option of netlink(7) on; kernels that lack it work without.
pub(super) fn enable(fd: &OwnedFd, option: libc::c_int) {
    // An error means that the kernel is older than the option, which is then done without.
    drop(set_option(fd, option, 1));
}

/// Sets an option of netlink(7).
pub(super) fn set_option(fd: &OwnedFd, option: libc::c_int, value: libc::c_int) -> Result<()> {
    set_int(fd, libc::SOL_NETLINK, option, value)
}

/// Sets an option that is a number.
#[allow(unsafe_code)]
pub(crate) fn set_int(
    fd: &OwnedFd,
    level: libc::c_int,
    option: libc::c_int,
    value: libc::c_int,
) -> Result<()> {
    // SAFETY: `fd` is open, and `value` lives through the call and has the length that is passed.
    let outcome = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            level,
            option,
            (&raw const value).cast(),
            size_of_val(&value) as libc::socklen_t,
        )
    };
    Errno::result(outcome)?;
    Ok(())
}

/// Receives one datagram into an empty buffer that has room for [`RECEIVE_BYTES`]; answers with its length,
/// which is larger than the buffer's where it did not fit. The buffer is not cleared for it: most answers
/// are short, and each page that is touched for the first time costs a page fault.
#[allow(unsafe_code)]
pub(super) fn receive(fd: &OwnedFd, buffer: &mut Vec<u8>, flags: MsgFlags) -> nix::Result<usize> {
    buffer.clear();
    buffer.reserve(RECEIVE_BYTES);
    let room = buffer.spare_capacity_mut();
    // SAFETY: `fd` is open, and `room` is writable for its whole length.
    let received = unsafe {
        libc::recv(
            fd.as_raw_fd(),
            room.as_mut_ptr().cast(),
            room.len(),
            (flags | MsgFlags::MSG_TRUNC).bits(),
        )
    };
    let len = Errno::result(received)?.cast_unsigned();
    let written = len.min(room.len());
    // SAFETY: the kernel has written that many bytes, from the buffer's beginning on.
    unsafe { buffer.set_len(written) };
    Ok(len)
}

/// Asks for large buffers; without the privilege as large as the system allows.
fn grow_buffers(fd: &OwnedFd) {
    // Refused without CAP_NET_ADMIN in the first user namespace; the plain option never fails then,
    // and batches are split to fit the default anyway.
    let send = setsockopt(fd, sockopt::SndBufForce, &BUFFER_BYTES)
        .or_else(|_| setsockopt(fd, sockopt::SndBuf, &BUFFER_BYTES));
    let receive = setsockopt(fd, sockopt::RcvBufForce, &BUFFER_BYTES)
        .or_else(|_| setsockopt(fd, sockopt::RcvBuf, &BUFFER_BYTES));
    debug_assert!(send.is_ok() && receive.is_ok(), "{send:?} {receive:?}");
}
