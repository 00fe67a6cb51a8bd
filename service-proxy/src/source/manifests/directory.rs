//! The directory: which file holds what, and what changes when a file does.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    document::{Parsed, Problem, parse},
    file::{Signature, content, format_of, signature},
};
use crate::model::{Change, ObjectKey};

/// A directory of manifests, and what was read from it.
///
/// What a file held while it was sound stays in force while it is not: an object goes away only with its
/// file, or when a file without any mistake no longer has it.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    files: BTreeMap<String, File>,
    /// Who has an object, by file name; the first one counts.
    holders: BTreeMap<ObjectKey, BTreeMap<String, Change>>,
}

/// What came of reading.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What became of objects.
    pub changes: Vec<Change>,
    /// What a person should know, each said once.
    pub warnings: Vec<String>,
}

/// The directory itself can't be read; all stays as it was.
#[derive(Debug, thiserror::Error)]
#[error("read manifest directory {}: {cause}; check that it exists and may be read", path.display())]
pub struct Unreadable {
    path: PathBuf,
    cause: io::Error,
}

#[derive(Debug, Default)]
struct File {
    signature: Option<Signature>,
    keys: BTreeSet<ObjectKey>,
    problems: Vec<Problem>,
}

// === impl Directory ===

impl Directory {
    /// A directory of which nothing has been read yet.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            files: BTreeMap::new(),
            holders: BTreeMap::new(),
        }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the directory can be read.
    pub fn check(&self) -> Result<(), Unreadable> {
        fs::read_dir(&self.path)
            .map(drop)
            .map_err(|cause| self.unreadable(cause))
    }

    /// Reads all files that are new or differ from what was read before, but those that are just being
    /// written.
    pub fn rescan(&mut self, written: &BTreeSet<String>) -> Result<Outcome, Unreadable> {
        let mut names = self.list().map_err(|cause| self.unreadable(cause))?;
        names.extend(self.files.keys().cloned());
        names.retain(|name| !written.contains(name));
        self.refresh(&names)
    }

    /// Reads the named files where they differ from what was read before.
    pub fn refresh(&mut self, names: &BTreeSet<String>) -> Result<Outcome, Unreadable> {
        // While the directory is away its files are too, and that does not mean that they were removed.
        self.check()?;
        let mut outcome = Outcome::default();
        for name in names {
            self.refresh_file(name, &mut outcome);
        }
        Ok(outcome)
    }

    fn list(&self) -> io::Result<BTreeSet<String>> {
        let mut names = BTreeSet::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            names.extend(
                name.into_string()
                    .ok()
                    .filter(|name| format_of(name).is_some()),
            );
        }
        Ok(names)
    }

    fn unreadable(&self, cause: io::Error) -> Unreadable {
        Unreadable {
            path: self.path.clone(),
            cause,
        }
    }

    fn refresh_file(&mut self, name: &str, outcome: &mut Outcome) {
        let Some(format) = format_of(name) else {
            return;
        };
        let path = self.path.join(name);
        // Looked at before the content is read: what is written in between is seen next time.
        let signature = signature(&path);
        if let (Ok(Some(now)), Some(file)) = (&signature, self.files.get(name))
            && file.signature.as_ref() == Some(now)
        {
            return;
        }
        match signature.and_then(|found| content(&path, found)) {
            Ok(Some((signature, text))) => {
                let parsed = match text {
                    Ok(text) => parse(&text, format),
                    Err(_) => Parsed::broken("is no UTF-8 text"),
                };
                self.take(name, Some(signature), parsed, outcome);
            }
            Ok(None) => {
                self.take(name, None, Parsed::default(), outcome);
                self.files.remove(name);
            }
            Err(error) => self.take(name, None, Parsed::broken(error), outcome),
        }
    }

    /// Puts what a file holds now in the place of what it held.
    fn take(
        &mut self,
        name: &str,
        signature: Option<Signature>,
        parsed: Parsed,
        outcome: &mut Outcome,
    ) {
        let before = self.files.remove(name).unwrap_or_default();
        outcome
            .warnings
            .extend(self.complaints(name, &before.problems, &parsed.problems));
        let mut objects = parsed.objects;
        if !parsed.problems.is_empty() {
            self.keep(name, &before.keys, &mut objects);
        }
        let file = File {
            signature,
            keys: objects.keys().cloned().collect(),
            problems: parsed.problems,
        };
        for key in before.keys.difference(&file.keys) {
            outcome.changes.extend(self.release(key, name));
        }
        for (key, object) in objects {
            outcome.changes.extend(self.hold(&key, name, object));
        }
        for key in file.keys.difference(&before.keys) {
            outcome.warnings.extend(self.contested(key));
        }
        self.files.insert(name.to_owned(), file);
    }

    /// What to say about problems that were not there before.
    fn complaints(&self, name: &str, before: &[Problem], now: &[Problem]) -> Vec<String> {
        let path = self.path.join(name);
        let new = now.iter().filter(|problem| !before.contains(problem));
        new.map(|problem| {
            format!(
                "manifest {}, {problem}; left out, and what the file held before stays in force until it \
                 is put right",
                path.display()
            )
        })
        .collect()
    }

    /// Adds to the objects of a file with mistakes in it those that it had before: the mistake may be in
    /// the very document that had one.
    fn keep(
        &self,
        name: &str,
        before: &BTreeSet<ObjectKey>,
        objects: &mut BTreeMap<ObjectKey, Change>,
    ) {
        for key in before {
            if let Some(held) = self.holders.get(key).and_then(|holders| holders.get(name)) {
                objects.entry(key.clone()).or_insert_with(|| held.clone());
            }
        }
    }

    /// Lets a file have an object; answers with what that changes.
    fn hold(&mut self, key: &ObjectKey, name: &str, object: Change) -> Option<Change> {
        let holders = self.holders.entry(key.clone()).or_default();
        let before = holders.values().next().cloned();
        holders.insert(name.to_owned(), object);
        let after = holders.values().next();
        after
            .filter(|after| Some(*after) != before.as_ref())
            .cloned()
    }

    /// Lets a file no longer have an object; answers with what that changes.
    fn release(&mut self, key: &ObjectKey, name: &str) -> Option<Change> {
        let holders = self.holders.get_mut(key)?;
        let before = holders.values().next().cloned();
        holders.remove(name);
        match holders.values().next().cloned() {
            Some(after) => Some(after).filter(|after| Some(after) != before.as_ref()),
            None => {
                self.holders.remove(key);
                Some(key.clone().gone())
            }
        }
    }

    fn contested(&self, key: &ObjectKey) -> Option<String> {
        let names: Vec<_> = self.holders.get(key)?.keys().map(String::as_str).collect();
        let (first, others) = names
            .split_first()
            .filter(|(_, others)| !others.is_empty())?;
        Some(format!(
            "manifest directory {}: {key} is in {first} and in {}; the one in {first} counts, remove the other",
            self.path.display(),
            others.join(", ")
        ))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::os::unix::fs::symlink;

    use super::*;

    const SOUND: &str =
        "apiVersion: v1\nkind: Service\nmetadata: {name: NAME}\nspec: {clusterIP: ADDRESS}\n";

    struct Lab {
        temporary: tempfile::TempDir,
        directory: Directory,
    }

    impl Lab {
        fn new() -> Self {
            let temporary = tempfile::tempdir().unwrap();
            let directory = Directory::new(temporary.path());
            Self {
                temporary,
                directory,
            }
        }

        fn write(&self, file: &str, text: &str) {
            fs::write(self.temporary.path().join(file), text).unwrap();
        }

        fn remove(&self, file: &str) {
            fs::remove_file(self.temporary.path().join(file)).unwrap();
        }

        /// What a rescan finds: `+name ip`, `-name`, and the warnings.
        fn rescan(&mut self) -> (Vec<String>, Vec<String>) {
            let outcome = self.directory.rescan(&BTreeSet::new()).unwrap();
            (outcome.changes.iter().map(show).collect(), outcome.warnings)
        }

        fn changes(&mut self) -> Vec<String> {
            let (changes, warnings) = self.rescan();
            assert_eq!(warnings, [""; 0]);
            changes
        }
    }

    fn show(change: &Change) -> String {
        match change {
            Change::Service(name, Some(service)) => {
                format!("+{} {}", name.name, service.cluster_ips[0])
            }
            Change::Service(name, None) => format!("-{}", name.name),
            Change::EndpointSlice(..) | Change::Node(..) | Change::ServiceCidr(..) => {
                format!("{change:?}")
            }
        }
    }

    fn service(name: &str, ip: &str) -> String {
        SOUND.replace("NAME", name).replace("ADDRESS", ip)
    }

    #[test]
    fn follows_files() {
        let mut lab = Lab::new();
        lab.write("a.yaml", &service("a", "10.0.0.1"));
        lab.write(
            "b.yml",
            &format!(
                "{}---\n{}",
                service("b", "10.0.0.2"),
                service("c", "10.0.0.3")
            ),
        );
        lab.write(".hidden.yaml", &service("h", "10.0.0.4"));
        lab.write("notes.txt", "nothing");
        assert_eq!(lab.changes(), ["+a 10.0.0.1", "+b 10.0.0.2", "+c 10.0.0.3"]);
        assert_eq!(lab.changes(), [""; 0]);
        lab.write("b.yml", &service("b", "10.0.0.9"));
        assert_eq!(lab.changes(), ["-c", "+b 10.0.0.9"]);
        lab.remove("a.yaml");
        assert_eq!(lab.changes(), ["-a"]);
    }

    #[test]
    fn a_file_with_mistakes_keeps_what_it_held_and_is_complained_about_once() {
        let mut lab = Lab::new();
        lab.write(
            "a.yaml",
            &format!(
                "{}---\n{}",
                service("a", "10.0.0.1"),
                service("b", "10.0.0.2")
            ),
        );
        lab.changes();
        lab.write(
            "a.yaml",
            &format!(
                "{}---\n{}",
                service("a", "10.0.0.7"),
                service("b", "rubbish")
            ),
        );
        lab.write("other.yaml", &service("other", "10.0.0.3"));
        let (changes, warnings) = lab.rescan();
        assert_eq!(changes, ["+a 10.0.0.7", "+other 10.0.0.3"]);
        assert_eq!(
            warnings,
            [format!(
                "manifest {}/a.yaml, document 2 (from line 5): Service b: spec.clusterIP: \"rubbish\" is no IP \
                 address; left out, and what the file held before stays in force until it is put right",
                lab.temporary.path().display()
            )]
        );
        assert_eq!(lab.changes(), [""; 0]);
        lab.write("a.yaml", &service("a", "10.0.0.7"));
        assert_eq!(lab.changes(), ["-b"]);
    }

    #[test]
    fn no_text_and_no_yaml_keep_everything() {
        let mut lab = Lab::new();
        lab.write("a.yaml", &service("a", "10.0.0.1"));
        lab.changes();
        for rubbish in [&b"\xff\xfe"[..], b"{", b"\0"] {
            fs::write(lab.temporary.path().join("a.yaml"), rubbish).unwrap();
            let (changes, warnings) = lab.rescan();
            assert_eq!((changes, warnings.len()), (vec![], 1), "{rubbish:?}");
        }
    }

    #[test]
    fn an_object_in_two_files_counts_once() {
        let mut lab = Lab::new();
        lab.write("b.yaml", &service("web", "10.0.0.2"));
        assert_eq!(lab.changes(), ["+web 10.0.0.2"]);
        lab.write("a.yaml", &service("web", "10.0.0.1"));
        let (changes, warnings) = lab.rescan();
        assert_eq!(changes, ["+web 10.0.0.1"]);
        assert!(
            warnings[0].contains("Service default/web is in a.yaml and in b.yaml"),
            "{warnings:?}"
        );
        lab.remove("a.yaml");
        assert_eq!(lab.changes(), ["+web 10.0.0.2"]);
        lab.remove("b.yaml");
        assert_eq!(lab.changes(), ["-web"]);
    }

    #[test]
    fn a_directory_that_is_away_changes_nothing() {
        let mut lab = Lab::new();
        lab.write("a.yaml", &service("a", "10.0.0.1"));
        lab.changes();
        let aside = lab.temporary.path().with_extension("aside");
        fs::rename(lab.temporary.path(), &aside).unwrap();
        let names = BTreeSet::from(["a.yaml".to_owned()]);
        let error = lab.directory.refresh(&names).unwrap_err().to_string();
        assert!(error.contains("No such file or directory"), "{error}");
        assert!(lab.directory.rescan(&BTreeSet::new()).is_err());
        fs::rename(&aside, lab.temporary.path()).unwrap();
        assert_eq!(lab.changes(), [""; 0]);
    }

    #[test]
    fn follows_links_as_a_mounted_config_map_has_them() {
        let mut lab = Lab::new();
        let root = lab.temporary.path().to_owned();
        for (version, ip) in [("v1", "10.0.0.1"), ("v2", "10.0.0.2")] {
            fs::create_dir(root.join(version)).unwrap();
            fs::write(root.join(version).join("a.yaml"), service("a", ip)).unwrap();
        }
        symlink("v1", root.join("..data")).unwrap();
        symlink("..data/a.yaml", root.join("a.yaml")).unwrap();
        assert_eq!(lab.changes(), ["+a 10.0.0.1"]);
        symlink("v2", root.join("..new")).unwrap();
        fs::rename(root.join("..new"), root.join("..data")).unwrap();
        assert_eq!(lab.changes(), ["+a 10.0.0.2"]);
    }
}
