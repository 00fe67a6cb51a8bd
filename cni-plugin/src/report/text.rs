//! Everything that is printed but results.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use serde_json::json;

use super::go_json;
use crate::{
    model::{Error, SpecVersion},
    plugin::Plugin,
    source::Placed,
};

/// The error object. Without `cniVersion`, as libcni prints it.
pub fn error(error: &Error) -> String {
    let mut object = json!({"code": error.code.number(), "msg": error.message});
    if !error.details.is_empty() {
        object["details"] = error.details.as_str().into();
    }
    go_json::pretty(&object)
}

/// The answer to VERSION.
pub fn versions() -> String {
    go_json::line(&json!({
        "cniVersion": SpecVersion::CURRENT.as_str(),
        "supportedVersions": SpecVersion::ALL.map(SpecVersion::as_str),
    }))
}

/// For a person who called the binary without a command.
pub fn about(plugin: Plugin) -> String {
    format!(
        "CNI {} plugin v{}\nCNI protocol versions supported: {}\n",
        plugin.name(),
        release::text(),
        SpecVersion::ALL.map(SpecVersion::as_str).join(", ")
    )
}

/// For a person who asks the binary by its own name which it is.
pub fn version() -> String {
    format!("tweed cni-plugin {}\n", release::text())
}

/// For a person who called the binary by a name that no plugin has.
pub fn unknown_name(name: &OsStr) -> String {
    format!(
        "{name:?} is no plugin of this binary: copy or link it to one of the names {}, and call it by that\n",
        Plugin::ALL.map(Plugin::name).join(", ")
    )
}

/// For a person who called the binary by its own name, and not as it is to be called by that.
pub fn usage() -> String {
    format!(
        "usage: cni-plugin install DIR [CONFLIST FILE]\n       cni-plugin --version\n\n\
         Puts this binary into DIR (/opt/cni/bin) under the names {}, in the place of what is there.\n\
         Under those names it is a CNI plugin. Then, if asked to, copies the network configuration list\n\
         CONFLIST to FILE (/etc/cni/net.d/10-flannel.conflist), by which the runtime starts to use it.\n",
        Plugin::ALL.map(Plugin::name).join(", ")
    )
}

/// What was installed, a line for each name.
pub fn installed(installed: &[(PathBuf, Placed)]) -> String {
    installed
        .iter()
        .map(|(path, placed)| match placed {
            Placed::Linked => format!("installed {}\n", path.display()),
            Placed::Copied => format!("installed {} (a copy of its own)\n", path.display()),
        })
        .collect()
}

/// That a network configuration list was installed.
pub fn installed_conflist(path: &Path) -> String {
    format!("installed {}\n", path.display())
}
