//! The file `subnet.env` (spec 1.6).

use std::{
    fs::{self, DirBuilder, Permissions},
    io::{self, Write},
    os::unix::fs::{DirBuilderExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ipnetwork::IpNetwork;
use tempfile::NamedTempFile;

use crate::model::{ByFamily, SubnetEnv};

/// The file can't be written.
#[derive(Debug, thiserror::Error)]
#[error("can't write {} (--subnet-file), which the CNI plugin needs: {cause}", .path.display())]
pub struct CannotWrite {
    path: PathBuf,
    #[source]
    cause: io::Error,
}

/// The subnets that the node had before; none if there is no file.
pub fn previous_subnets(path: &Path) -> ByFamily<IpNetwork> {
    SubnetEnv::previous_subnets(&previous_subnet_file(path))
}

/// The file of before; empty if there is none.
pub fn previous_subnet_file(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| {
        if error.kind() != io::ErrorKind::NotFound {
            let path = path.display();
            tracing::warn!("the node's previous subnet is not known: can't read {path}: {error}");
        }
        String::new()
    })
}

/// Writes the file as a whole, unless it stands there as it should. Answers whether it was written.
pub fn write_subnet_file(path: &Path, env: &SubnetEnv) -> Result<bool, CannotWrite> {
    let text = env.to_string();
    if fs::read(path).is_ok_and(|found| found == text.as_bytes()) {
        return Ok(false);
    }
    write_atomically(path, text.as_bytes(), 0o644)
        .map(|()| true)
        .map_err(|cause| CannotWrite {
            path: path.to_owned(),
            cause,
        })
}

/// Writes a file as a whole, with this mode, in a directory that is made if there is none.
pub(crate) fn write_atomically(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(directory) if !directory.as_os_str().is_empty() => directory,
        _ => Path::new("."),
    };
    DirBuilder::new()
        .recursive(true)
        .mode(0o755)
        .create(directory)?;
    let mut file = NamedTempFile::new_in(directory)?;
    file.write_all(content)?;
    file.as_file()
        .set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use kernel::Family;

    use super::*;

    #[test]
    fn is_written_once_and_remembered() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("flannel/subnet.env");
        let subnets: ByFamily<IpNetwork> = [(Family::V4, "10.5.72.0/24".parse().unwrap())]
            .into_iter()
            .collect();
        let env = SubnetEnv {
            networks: subnets,
            subnets,
            mtu: 1450,
            ip_masq: false,
        };
        assert!(previous_subnets(&path).is_empty());
        assert!(write_subnet_file(&path, &env).unwrap());
        assert!(!write_subnet_file(&path, &env).unwrap());
        assert_eq!(previous_subnets(&path), subnets);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o644, 0o755));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_file_and_the_flag() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        fs::write(&path, "").unwrap();
        let env = SubnetEnv {
            networks: ByFamily::default(),
            subnets: ByFamily::default(),
            mtu: 0,
            ip_masq: false,
        };
        let error = write_subnet_file(&path.join("subnet.env"), &env)
            .unwrap_err()
            .to_string();
        assert!(error.contains("file/subnet.env (--subnet-file)"), "{error}");
    }
}
