//! A file tree as a value, and the layer that it becomes: the same tree gives the same bytes, whoever builds it
//! wherever and whenever.

use std::{collections::BTreeMap, io, path::PathBuf};

use tar::{EntryType, Header};

/// A file tree. Paths are relative to its root; directories above a file need not be named.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RootFs {
    nodes: BTreeMap<PathBuf, Node>,
}

/// What is at a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory, mode 0755.
    Directory,
    /// A file.
    File {
        /// Whether it is a program (mode 0755) or data (0644).
        executable: bool,
        /// What is in it.
        contents: Vec<u8>,
    },
    /// A symbolic link, and what it says.
    Symlink(PathBuf),
}

// === impl RootFs ===

impl RootFs {
    /// Puts something at a path, and the directories above it; what was there is replaced.
    pub fn insert(&mut self, path: impl Into<PathBuf>, node: Node) {
        let path = path.into();
        for above in path.ancestors().skip(1) {
            if !above.as_os_str().is_empty() {
                let above = self.nodes.entry(above.to_owned());
                above.or_insert(Node::Directory);
            }
        }
        self.nodes.insert(path, node);
    }

    /// Puts a symbolic link at a path.
    pub fn link(&mut self, path: &str, target: &str) {
        self.insert(path, Node::Symlink(target.into()));
    }

    /// The tree as a tar archive: sorted, everything root's, all of one time (seconds since 1970).
    pub fn to_tar(&self, time: u64) -> io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::new());
        for (path, node) in &self.nodes {
            let mut header = Header::new_gnu();
            header.set_mtime(time);
            header.set_uid(0);
            header.set_gid(0);
            match node {
                Node::Directory => {
                    header.set_entry_type(EntryType::Directory);
                    header.set_mode(0o755);
                    header.set_size(0);
                    archive.append_data(&mut header, path, io::empty())?;
                }
                Node::File {
                    executable,
                    contents,
                } => {
                    header.set_entry_type(EntryType::Regular);
                    header.set_mode(if *executable { 0o755 } else { 0o644 });
                    header.set_size(contents.len() as u64);
                    archive.append_data(&mut header, path, contents.as_slice())?;
                }
                Node::Symlink(target) => {
                    header.set_entry_type(EntryType::Symlink);
                    header.set_mode(0o777);
                    header.set_size(0);
                    archive.append_link(&mut header, path, target)?;
                }
            }
        }
        archive.into_inner()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn tree(names: &[&str]) -> RootFs {
        let mut tree = RootFs::default();
        for name in names {
            let contents = name.as_bytes().to_vec();
            let executable = name.starts_with("usr/bin");
            let file = Node::File {
                executable,
                contents,
            };
            tree.insert(*name, file);
        }
        tree
    }

    #[test]
    fn one_tree_is_one_archive_however_it_was_made() {
        let one = tree(&["usr/bin/a", "etc/b"]).to_tar(7).unwrap();
        assert_eq!(one, tree(&["etc/b", "usr/bin/a"]).to_tar(7).unwrap());
        assert_ne!(one, tree(&["etc/b", "usr/bin/a"]).to_tar(8).unwrap());
    }

    #[test]
    fn everything_is_roots_and_directories_come_first() {
        let mut tree = tree(&["usr/bin/a", "etc/b"]);
        tree.link("sbin", "usr/bin");
        let bytes = tree.to_tar(7).unwrap();
        let mut archive = tar::Archive::new(bytes.as_slice());
        let entries: Vec<_> = archive
            .entries()
            .unwrap()
            .map(|entry| {
                let entry = entry.unwrap();
                let header = entry.header();
                assert_eq!((header.uid().unwrap(), header.gid().unwrap()), (0, 0));
                assert_eq!(header.mtime().unwrap(), 7);
                let path = entry.path().unwrap().display().to_string();
                (path, header.mode().unwrap())
            })
            .collect();
        let expected = [
            ("etc", 0o755),
            ("etc/b", 0o644),
            ("sbin", 0o777),
            ("usr", 0o755),
            ("usr/bin", 0o755),
            ("usr/bin/a", 0o755),
        ];
        assert_eq!(
            entries,
            expected.map(|(path, mode)| (path.to_owned(), mode))
        );
    }
}
