//! Paths below a directory of the kernel's, from names that come from elsewhere.

use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// The path of `name`, of one or more parts, below a directory.
///
/// # Errors
/// EINVAL if it would lead out of the directory, or to the directory itself.
pub(crate) fn below(directory: &str, name: &str) -> Result<PathBuf, Errno> {
    let plain = |part: &str| !matches!(part, "" | "." | "..") && !part.contains('\0');
    match name.split('/').all(plain) {
        true => Ok(Path::new(directory).join(name)),
        false => Err(Errno::EINVAL),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_below_the_directory() {
        for (name, path) in [
            ("net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward"),
            (
                "net/ipv4/conf/eth0.7/forwarding",
                "/proc/sys/net/ipv4/conf/eth0.7/forwarding",
            ),
            ("..a", "/proc/sys/..a"),
        ] {
            assert_eq!(below("/proc/sys", name), Ok(path.into()), "{name:?}");
        }
        for name in [
            "",
            "/",
            "/etc/passwd",
            "..",
            "../../etc",
            "net/../kernel/pid_max",
            "net//ipv4",
            "net/.",
            "net/",
            "a\0b",
        ] {
            assert_eq!(below("/proc/sys", name), Err(Errno::EINVAL), "{name:?}");
        }
    }
}
