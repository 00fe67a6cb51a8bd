//! Putting the binary into a directory under its names, and a network configuration list where the runtime looks
//! for it, by rename: a runtime that reads one meanwhile gets the old one or the new one, never half of one
//! (`text file busy`, a short read).

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
    process,
};

use serde_json::Value;

use super::atomic_file::remove_if_there;
use crate::model::Error;

/// Anyone may run a plugin.
const PROGRAM: u32 = 0o755;
/// Anyone may read a network's configuration.
const DATA: u32 = 0o644;

/// How a name came to be in the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// As one more name of a single copy of the binary.
    Linked,
    /// As a copy of its own: the file system has no hard links.
    Copied,
}

/// Puts the running binary into a directory under each of the names, in the place of what is there.
pub fn install(directory: &Path, names: &[&'static str]) -> Result<Vec<(PathBuf, Placed)>, Error> {
    let binary = std::env::current_exe()
        .map_err(|error| Error::io("find the running binary".into(), &error))?;
    let temporary = |name: &str| directory.join(format!(".{name}.{}", process::id()));
    let original = temporary("cni-plugin");
    let installed = copy(&binary, &original, PROGRAM).and_then(|()| {
        let place = |name: &&'static str| place(&original, &temporary(name), &directory.join(name));
        names.iter().map(place).collect()
    });
    let removed = remove_if_there(&original)
        .map_err(|error| Error::io(format!("remove {}", original.display()), &error));
    installed.and_then(|installed| removed.map(|()| installed))
}

fn place(original: &Path, temporary: &Path, path: &Path) -> Result<(PathBuf, Placed), Error> {
    let failed = |attempted: &str, error: io::Error| {
        Error::io(format!("{attempted} {}", path.display()), &error)
    };
    remove_if_there(temporary).map_err(|error| failed("prepare", error))?;
    let placed = if fs::hard_link(original, temporary).is_ok() {
        Placed::Linked
    } else {
        copy(original, temporary, PROGRAM)?;
        Placed::Copied
    };
    fs::rename(temporary, path).map_err(|error| {
        let error = failed("replace", error);
        match remove_if_there(temporary) {
            Ok(()) => error,
            Err(left) => error.with_details(format!("{} is left: {left}", temporary.display())),
        }
    })?;
    Ok((path.to_owned(), placed))
}

/// Puts a network configuration list (CNI specification 1.1.0, section 1) where the runtime finds it, once
/// all of its plugins are in `plugins`: from then on, pods are made by it.
pub fn install_conflist(from: &Path, to: &Path, plugins: &Path) -> Result<(), Error> {
    let text =
        fs::read(from).map_err(|error| Error::io(format!("read {}", from.display()), &error))?;
    let missing = plugin_types(&text)
        .map_err(|why| Error::config(format!("{}: {why}", from.display())))?
        .into_iter()
        .find(|plugin| !plugins.join(plugin).is_file());
    if let Some(plugin) = missing {
        let (from, plugins) = (from.display(), plugins.display());
        let message = format!("{from} has a plugin {plugin:?}, which is not in {plugins}");
        return Err(Error::config(message));
    }
    // Runtimes read what ends in .conflist.
    let name = to.file_name().unwrap_or_default().to_string_lossy();
    let temporary = to.with_file_name(format!(".{name}.{}", process::id()));
    copy(from, &temporary, DATA)?;
    fs::rename(&temporary, to)
        .map_err(|error| Error::io(format!("replace {}", to.display()), &error))
}

/// The plugins that a network configuration list names.
fn plugin_types(text: &[u8]) -> Result<Vec<String>, String> {
    let list: Value = serde_json::from_slice(text).map_err(|error| error.to_string())?;
    if !list["name"].is_string() {
        return Err("no \"name\": not a network configuration list".into());
    }
    let plugins = list["plugins"].as_array().filter(|it| !it.is_empty());
    let plugins = plugins.ok_or("no \"plugins\": not a network configuration list")?;
    let types = plugins.iter().map(|plugin| {
        let name = plugin["type"].as_str().ok_or("a plugin without \"type\"")?;
        // Runtimes look for no path either.
        match name.contains('/') {
            true => Err(format!("{name:?} can't be a plugin's name")),
            false => Ok(name.to_owned()),
        }
    });
    types.collect()
}

/// Copies a file, and has it on the disk when it is done.
fn copy(from: &Path, to: &Path, mode: u32) -> Result<(), Error> {
    let copied = || -> io::Result<()> {
        remove_if_there(to)?;
        let mut source = fs::File::open(from)?;
        let mut options = OpenOptions::new();
        let mut file = options.write(true).create_new(true).mode(mode).open(to)?;
        io::copy(&mut source, &mut file)?;
        // Whatever the process's umask says.
        file.set_permissions(fs::Permissions::from_mode(mode))?;
        file.sync_all()
    };
    copied().map_err(|error| {
        let attempted = format!("copy {} to {}", from.display(), to.display());
        Error::io(attempted, &error)
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_replaced_and_nothing_else_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("bridge"), "an older plugin").unwrap();
        fs::write(path("other"), "not ours").unwrap();
        let before = fs::File::open(path("bridge")).unwrap();
        for _ in 0..2 {
            let installed = install(directory.path(), &["bridge", "flannel"]).unwrap();
            let linked = |name| (path(name), Placed::Linked);
            assert_eq!(installed, [linked("bridge"), linked("flannel")]);
        }
        assert_eq!(io::read_to_string(before).unwrap(), "an older plugin");
        let mut names: Vec<_> = fs::read_dir(directory.path()).unwrap().collect();
        assert_eq!(names.drain(..).count(), 3);
        let ours = fs::read(std::env::current_exe().unwrap()).unwrap();
        for name in ["bridge", "flannel"] {
            assert!(fs::read(path(name)).unwrap() == ours, "{name}");
            let mode = fs::metadata(path(name)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, PROGRAM);
        }
    }

    #[test]
    fn a_name_that_is_a_directory_is_told() {
        let directory = tempfile::tempdir().unwrap();
        fs::create_dir(directory.path().join("bridge")).unwrap();
        let error = install(directory.path(), &["bridge"]).unwrap_err();
        assert!(
            error.message.ends_with("/bridge: is a directory"),
            "{error}"
        );
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        let error = install(&directory.path().join("none"), &["bridge"]).unwrap_err();
        assert!(
            error.message.ends_with("no such file or directory"),
            "{error}"
        );
    }

    #[test]
    fn a_list_is_installed_when_its_plugins_are() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let install = |text: &str| {
            fs::write(path("source"), text).unwrap();
            install_conflist(&path("source"), &path("10-a.conflist"), directory.path())
                .map_err(|error| error.message)
        };
        for (text, expected) in [
            ("{", "source: EOF while parsing"),
            (r#"{"plugins":[{"type":"source"}]}"#, "no \"name\""),
            (r#"{"name":"a","type":"source"}"#, "no \"plugins\""),
            (r#"{"name":"a","plugins":[{}]}"#, "without \"type\""),
            (
                r#"{"name":"a","plugins":[{"type":"../../bin/sh"}]}"#,
                "\"../../bin/sh\" can't be a plugin's name",
            ),
            (
                r#"{"name":"a","plugins":[{"type":"none"}]}"#,
                "a plugin \"none\", which is not in",
            ),
        ] {
            let message = install(text).unwrap_err();
            assert!(message.contains(expected), "{message}");
            assert!(!path("10-a.conflist").exists());
        }
        let good = r#"{"name":"a","plugins":[{"type":"source"}]}"#;
        for _ in 0..2 {
            install(good).unwrap();
            assert_eq!(fs::read_to_string(path("10-a.conflist")).unwrap(), good);
        }
        let mode = fs::metadata(path("10-a.conflist"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, DATA);
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
    }
}
