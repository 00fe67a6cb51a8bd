//! The tuning plugin: changes settings of the container's interface, and kernel settings of its network
//! namespace.
//!
//! What is changed of the interface is restored by DEL, by way of a backup that the reference plugin can
//! read as well. Kernel settings are not: they end with the namespace.

use std::collections::BTreeMap;

use kernel::{
    netns::Namespace,
    route::{Change, Handle, Link, LinkSettings},
    sysctl,
};
use nix::errno::Errno;

use crate::{
    model::{AddResult, Attachment, Code, Error, NetConf, TuningConf, ValidAttachments},
    plan::{self, hashed_name::hashed},
    source::{self, BackupFile},
};

/// Letters of a network's mark in the names of temporary files.
const MARK_LEN: usize = 16;

/// Makes the changes; answers with `prevResult`, in which the interface has its new address and MTU.
pub fn add(attachment: &Attachment, conf: &NetConf) -> Result<AddResult, Error> {
    let tuning = TuningConf::of(conf, attachment)?;
    if let Some(allowlist) = source::read_allowlist()? {
        tuning
            .sysctl
            .keys()
            .try_for_each(|key| allowlist.check(key))?;
    }
    let sysctls = paths(&tuning, attachment)?;
    let mut result = conf.required_prev_result()?;
    let namespace = open(attachment)?;
    namespace.visit(|| set_all(&sysctls))??;
    let changes = plan::tuning::changes(&tuning);
    if changes.is_empty() {
        return Ok(result);
    }
    let mut handle = Handle::open_in(&namespace)?;
    let link = link(&mut handle, attachment)?;
    let file = backup_file(attachment, conf)?;
    save(&mut handle, &link, &tuning, conf, &file)?;
    apply(&mut handle, &link, changes).map_err(|error| {
        match restore(&mut handle, &link, &file).and_then(|()| file.remove()) {
            Ok(()) => error,
            Err(left) => error.with_details(format!("and it could not be undone: {left}")),
        }
    })?;
    let container = result
        .interfaces
        .iter_mut()
        .filter(|it| it.name == attachment.if_name.as_str() && !it.sandbox.is_empty());
    for interface in container {
        interface.mac = tuning.mac.or(interface.mac);
        interface.mtu = tuning.mtu.unwrap_or(interface.mtu);
    }
    Ok(result)
}

/// Restores what was there. All is well if the namespace or the interface is gone; and also if the kernel
/// refuses, as with the reference: the DEL of the plugin that made the interface comes next.
pub fn del(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let file = backup_file(attachment, conf)?;
    let Some(mut handle) = existing(attachment)? else {
        return file.remove();
    };
    match handle.link_by_name(&attachment.if_name)? {
        Some(link) => match restore(&mut handle, &link, &file) {
            Ok(()) => file.remove(),
            // The backup stays for another try, or for GC.
            Err(_) => Ok(()),
        },
        None => file.remove(),
    }
}

/// Whether everything is as it was set; the error names the first thing that is not.
pub fn check(attachment: &Attachment, conf: &NetConf) -> Result<(), Error> {
    let tuning = TuningConf::of(conf, attachment)?;
    let sysctls = paths(&tuning, attachment)?;
    conf.required_prev_result()?;
    let namespace = open(attachment)?;
    namespace.visit(|| check_all(&sysctls))??;
    let mut handle = Handle::open_in(&namespace)?;
    let link = link(&mut handle, attachment)?;
    let details = handle.link_details(link.index)?;
    let details = details.ok_or_else(|| missing(attachment))?;
    match plan::tuning::difference(&tuning, &link, &details) {
        Some(text) => Err(internal(text)),
        None => Ok(()),
    }
}

/// Removes backups of attachments that are not in use any more.
pub fn gc(valid: &ValidAttachments, conf: &NetConf) -> Result<(), Error> {
    let dir = TuningConf::data_dir(conf)?;
    BackupFile::remove_left(&dir, conf.name(), &mark(conf), valid)
}

fn paths(tuning: &TuningConf, attachment: &Attachment) -> Result<BTreeMap<String, String>, Error> {
    let mut paths = BTreeMap::new();
    for (key, value) in &tuning.sysctl {
        let path = plan::tuning::sysctl_path(key, &attachment.if_name)?;
        if paths.insert(path.clone(), value.clone()).is_some() {
            return Err(Error::config(format!(
                "sysctl: {key:?} names /proc/sys/{path}, which another key names as well: give it one value"
            )));
        }
    }
    Ok(paths)
}

fn set_all(sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    for (path, value) in sysctls {
        sysctl::set(path, value)?;
    }
    Ok(())
}

/// Several numbers are the same however they are separated: the kernel answers with tabs.
fn check_all(sysctls: &BTreeMap<String, String>) -> Result<(), Error> {
    for (path, want) in sysctls {
        let have = sysctl::get(path)?;
        if !have.split_whitespace().eq(want.split_whitespace()) {
            return Err(internal(format!(
                "Error: Tuning configured value of /proc/sys/{path} is {want}, current value is {have}"
            )));
        }
    }
    Ok(())
}

fn save(
    handle: &mut Handle,
    link: &Link,
    tuning: &TuningConf,
    conf: &NetConf,
    file: &BackupFile,
) -> Result<(), Error> {
    let details = handle.link_details(link.index)?;
    let details = details.ok_or_else(|| internal(format!("{} is gone", link.name)))?;
    let backup = plan::tuning::backup(tuning, conf.name(), link, &details);
    let first = file.load()?.unwrap_or_default();
    file.save(&backup.after(first))
}

/// Restores from the backup, if there is one.
fn restore(handle: &mut Handle, link: &Link, file: &BackupFile) -> Result<(), Error> {
    match file.load()? {
        Some(backup) => apply(handle, link, plan::tuning::restoration(&backup)),
        None => Ok(()),
    }
}

fn apply(handle: &mut Handle, link: &Link, settings: Vec<LinkSettings>) -> Result<(), Error> {
    let changes = settings.into_iter();
    let changes: Vec<Change> = changes.map(|it| Change::SetLink(link.index, it)).collect();
    let applied = handle.apply(&changes);
    applied.map_err(|error| Error::from(error).during(&format!("tune {}", link.name)))
}

fn open(attachment: &Attachment) -> Result<Namespace, Error> {
    Namespace::open(&attachment.netns).map_err(|error| {
        Error::from(error).during(&format!("failed to open netns {:?}", attachment.netns))
    })
}

/// The container's namespace, if it is still there, and none of the node's own.
fn existing(attachment: &Attachment) -> Result<Option<Handle>, Error> {
    if attachment.netns.is_empty() {
        return Ok(None);
    }
    let namespace = match Namespace::open(&attachment.netns) {
        Err(error) if error.is_not_found() => return Ok(None),
        other => other?,
    };
    if namespace.is_same(&Namespace::current()?)? {
        return Ok(None);
    }
    match Handle::open_in(&namespace) {
        // The path is there, and no namespace: its mount is gone.
        Err(error) if error.errno() == Some(Errno::EINVAL) => Ok(None),
        handle => Ok(Some(handle?)),
    }
}

fn link(handle: &mut Handle, attachment: &Attachment) -> Result<Link, Error> {
    let link = handle.link_by_name(&attachment.if_name)?;
    link.ok_or_else(|| missing(attachment))
}

fn missing(attachment: &Attachment) -> Error {
    let name = &attachment.if_name;
    internal(format!("Cannot find container link {name}")).with_details(&attachment.netns)
}

fn backup_file(attachment: &Attachment, conf: &NetConf) -> Result<BackupFile, Error> {
    let dir = TuningConf::data_dir(conf)?;
    Ok(BackupFile::of(attachment, &mark(conf), &dir))
}

fn mark(conf: &NetConf) -> String {
    hashed(MARK_LEN, "", conf.name())
}

fn internal(text: impl Into<String>) -> Error {
    Error::new(Code::Internal, text)
}
