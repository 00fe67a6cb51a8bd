//! Whether this kernel is one for nftables mode.

use std::env;

use nix::sys::utsname::uname;

/// The oldest kernel that kube-proxy's nftables mode is for.
const OLDEST: (u32, u32) = (5, 13);
/// Skips the check, for kernels of distributions that have got the features all the same.
const SKIP: &str = "KUBE_PROXY_NFTABLES_SKIP_KERNEL_VERSION_CHECK";

/// The kernel is too old.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "mode: {said}Linux {release} is older than 5.13, which nftables mode needs; say iptables, or {SKIP}=1 tries it all the same"
)]
pub struct TooOld {
    release: String,
    said: &'static str,
}

/// Says whether a mode can be had on this kernel.
///
/// # Errors
/// If the kernel is too old.
pub fn check_kernel(mode: &str) -> Result<(), TooOld> {
    let skip = env::var_os(SKIP).is_some_and(|value| !value.is_empty());
    if mode == "iptables" {
        return Ok(());
    }
    // A kernel that does not tell its release will tell what it lacks.
    let release = uname().map(|names| names.release().to_string_lossy().into_owned());
    match release {
        Ok(release) if !skip && is_too_old(&release) => Err(TooOld {
            release,
            said: if mode.is_empty() {
                "nothing is said, and "
            } else {
                ""
            },
        }),
        _ => Ok(()),
    }
}

fn is_too_old(release: &str) -> bool {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => (major, minor) < OLDEST,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_from_5_13_on() {
        for (release, too_old) in [
            ("5.12.19", true),
            ("4.19.0-27-amd64", true),
            ("5.13", false),
            ("5.13-rc1", false),
            ("6.1.0-56-amd64", false),
            ("6", false),
            ("", false),
        ] {
            assert_eq!(is_too_old(release), too_old, "{release:?}");
        }
        assert_eq!(check_kernel(""), Ok(()));
    }
}
