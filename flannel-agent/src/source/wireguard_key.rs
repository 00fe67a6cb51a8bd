//! The node's private WireGuard key, in a file.

use std::{
    env,
    fs::{self, File},
    io::{self, Read},
    path::{Path, PathBuf},
};

use kernel::wireguard::{InvalidKey, SecretKey};

use crate::report::write_atomically;

/// Where the key is kept, unless the environment names another place as flannel's does.
const FILE: &str = "/run/flannel/wgkey";
const ENVIRONMENT: &str = "WIREGUARD_KEY_FILE";

/// There is no key to be had.
#[derive(Debug, thiserror::Error)]
pub enum NoKey {
    /// The file is there, but it can't be read.
    #[error("can't read the WireGuard key file {} (WIREGUARD_KEY_FILE): {cause}", .path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// The file has something else in it.
    #[error("the WireGuard key file {} (WIREGUARD_KEY_FILE): {cause}; remove it to have a new key made", .path.display())]
    Invalid {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: InvalidKey,
    },
    /// A new key can't be made or written.
    #[error("can't make the WireGuard key file {} (WIREGUARD_KEY_FILE): {cause}", .path.display())]
    Unwritable {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
}

/// Where the key is or would be.
pub fn wireguard_key_file() -> PathBuf {
    env::var_os(ENVIRONMENT).map_or_else(|| FILE.into(), PathBuf::from)
}

/// The key that is in the file, or a new one that is then in the file.
pub fn wireguard_key() -> Result<SecretKey, NoKey> {
    key_in(&wireguard_key_file())
}

fn key_in(path: &Path) -> Result<SecretKey, NoKey> {
    let path_buf = || path.to_owned();
    match fs::read_to_string(path) {
        Ok(text) => match text.trim().parse::<SecretKey>() {
            Ok(key) => Ok(SecretKey::clamped(key.0)),
            Err(cause) => Err(NoKey::Invalid {
                path: path_buf(),
                cause,
            }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            make_key(path).map_err(|cause| NoKey::Unwritable {
                path: path_buf(),
                cause,
            })
        }
        Err(cause) => Err(NoKey::Unreadable {
            path: path_buf(),
            cause,
        }),
    }
}

fn make_key(path: &Path) -> io::Result<SecretKey> {
    let mut bytes = [0; 32];
    File::open("/dev/urandom")?.read_exact(&mut bytes)?;
    let key = SecretKey::clamped(bytes);
    write_atomically(path, key.reveal().as_bytes(), 0o600)?;
    Ok(key)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn is_made_once_and_kept_to_its_owner() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flannel/wgkey");
        let key = key_in(&path).unwrap();
        assert_eq!(key_in(&path).unwrap(), key);
        assert_eq!(SecretKey::clamped(key.0), key);
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        fs::write(&path, key.reveal() + "\n").unwrap();
        assert_eq!(key_in(&path).unwrap(), key);
    }

    #[test]
    fn what_is_no_key_is_not_overwritten() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("wgkey");
        fs::write(&path, "secret").unwrap();
        let error = key_in(&path).unwrap_err().to_string();
        assert!(error.contains("/wgkey (WIREGUARD_KEY_FILE): not a WireGuard key"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "secret");
        let error = key_in(&path.join("below")).unwrap_err().to_string();
        assert!(error.contains("Not a directory"), "{error}");
    }
}
