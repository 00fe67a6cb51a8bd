//! What flannel's ADD handed to its delegate, kept for the DEL: by then the node may have another subnet,
//! or the network another configuration.

use std::{fs, path::Path};

use serde_json::{Map, Value};

use super::kept_file::{self, KeptFile};
use crate::model::{Attachment, Error};

/// The scratch file of one container.
#[derive(Debug)]
pub struct Scratch(KeptFile);

// === impl Scratch ===

impl Scratch {
    /// The file of a container below `dir`, where the reference plugin has it, too: one for all of the
    /// container's interfaces. `mark` tells the network by a few letters that are no dots: what a killed
    /// process leaves may be empty, so that its name has to say whose it is.
    pub fn of(attachment: &Attachment, mark: &str, dir: &Path) -> Self {
        let id = &attachment.container_id;
        let temporary = format!(".{id}.{}.{mark}", attachment.if_name);
        Self(KeptFile::new(
            dir,
            id,
            temporary,
            "the delegate's configuration",
        ))
    }

    /// Saves a delegate's configuration.
    pub fn save(&self, delegate: &Map<String, Value>) -> Result<(), Error> {
        self.0
            .save(Value::Object(delegate.clone()).to_string().as_bytes())
    }

    /// The saved configuration; `None` if there is none, or none that can be read as one.
    pub fn load(&self) -> Result<Option<Map<String, Value>>, Error> {
        self.0.load()
    }

    /// Removes the file, if it is there, and what a killed process left of it.
    pub fn remove(&self) -> Result<(), Error> {
        self.0.remove()
    }

    /// Removes the files of a network's containers that `is_in_use` does not know, by container id. What can't
    /// be read as a delegate's configuration may be anybody's, and stays. `mark` is the network's, as in
    /// [`Scratch::of`].
    pub fn remove_left(
        dir: &Path,
        network: &str,
        mark: &str,
        is_in_use: impl Fn(&str) -> bool,
    ) -> Result<(), Error> {
        kept_file::remove_left(dir, |path, name| match name.strip_prefix('.') {
            Some(temporary) => is_left_temporary(temporary, mark, &is_in_use),
            None => !is_in_use(name) && is_of_network(path, network),
        })
    }
}

/// Whether `ID.IFNAME.MARK` is what an ADD of the network was killed over. Names of interfaces may have dots
/// as ids do, so that it may be any of several containers': none of them must be in use.
fn is_left_temporary(name: &str, mark: &str, is_in_use: impl Fn(&str) -> bool) -> bool {
    let Some((rest, its_mark)) = name.rsplit_once('.') else {
        return false;
    };
    let mut dots = rest.match_indices('.');
    its_mark == mark && !dots.any(|(at, _)| is_in_use(&rest[..at]))
}

fn is_of_network(path: &Path, network: &str) -> bool {
    let content = fs::read(path).unwrap_or_default();
    let object: Map<String, Value> = serde_json::from_slice(&content).unwrap_or_default();
    object.get("name").and_then(Value::as_str) == Some(network)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn scratch(dir: &Path) -> Scratch {
        let attachment = Attachment {
            container_id: "c1".into(),
            if_name: "eth0".parse().unwrap(),
            netns: String::new(),
            args: String::new(),
        };
        Scratch::of(&attachment, "mark", dir)
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn is_kept_for_root_alone_and_found_again() {
        let base = tempfile::tempdir().unwrap();
        let dir = base.path().join("flannel");
        let delegate: Map<String, Value> =
            serde_json::from_str(r#"{"mtu":1450,"name":"cbr0"}"#).unwrap();
        scratch(&dir).save(&delegate).unwrap();
        assert_eq!((mode(&dir), mode(&dir.join("c1"))), (0o700, 0o600));
        let content = fs::read_to_string(dir.join("c1")).unwrap();
        assert_eq!(content, r#"{"mtu":1450,"name":"cbr0"}"#);
        assert_eq!(scratch(&dir).load().unwrap(), Some(delegate));
        scratch(&dir).remove().unwrap();
        scratch(&dir).remove().unwrap();
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    }

    #[test]
    fn a_missing_or_damaged_file_is_no_configuration() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(scratch(dir.path()).load().unwrap(), None);
        for damaged in ["", "{\"na", "[]"] {
            fs::write(dir.path().join("c1"), damaged).unwrap();
            assert_eq!(scratch(dir.path()).load().unwrap(), None, "{damaged:?}");
        }
    }

    #[test]
    fn temporaries_of_the_network_that_no_container_in_use_can_own_are_left() {
        let dir = tempfile::tempdir().unwrap();
        let names = [
            ".c1.eth0.mark",
            ".c2.eth0.mark",
            ".c2.eth0.100.mark",
            ".c2.x.eth0.mark",
            ".c1.eth0.other",
            ".c1",
        ];
        for name in names {
            fs::write(dir.path().join(name), "").unwrap();
        }
        let left = |id: &str| {
            Scratch::remove_left(dir.path(), "cbr0", "mark", |known| known == id).unwrap();
            names.map(|name| dir.path().join(name).exists())
        };
        assert_eq!(left("c2"), [false, true, true, true, true, true]);
        assert_eq!(left("c2.x"), [false, false, false, true, true, true]);
        assert_eq!(left("c9"), [false, false, false, false, true, true]);
    }
}
