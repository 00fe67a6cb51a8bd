//! Plugins that are not of this binary: found by `CNI_PATH` and executed, with the environment that this
//! process has (CNI specification 1.1.0, section 4).

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use serde::Deserialize;
use serde_json::Value;

use super::Environment;
use crate::model::{Code, Error, NetConf};

/// A plugin to execute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForeignPlugin {
    path: PathBuf,
}

/// The error object that a plugin prints.
#[derive(Deserialize)]
struct Printed {
    code: u32,
    #[serde(default)]
    msg: String,
    #[serde(default)]
    details: String,
}

// === impl ForeignPlugin ===

impl ForeignPlugin {
    /// Finds a plugin by its name in the directories of `CNI_PATH`.
    pub fn find(name: &str, environment: &Environment) -> Result<Self, Error> {
        let is_name = !name.is_empty() && !name.contains('/');
        let dirs = environment.path.split(':').filter(|dir| !dir.is_empty());
        let mut paths = dirs.map(|dir| Path::new(dir).join(name));
        let found = paths.find(|path| is_name && path.is_file());
        found.map(|path| Self { path }).ok_or_else(|| {
            Error::new(
                Code::Internal,
                format!(
                    "failed to find plugin {name:?} in path [{}]",
                    environment.path
                ),
            )
        })
    }

    /// Executes it for a verb; answers with what it printed, if that was anything.
    pub fn call(
        &self,
        verb: &str,
        environment: &Environment,
        conf: &NetConf,
    ) -> Result<Option<Value>, Error> {
        let attempted = || format!("{} {verb}", self.path.display());
        let output = self
            .execute(verb, environment, &conf.to_bytes())
            .map_err(|error| Error::io(attempted(), &error))?;
        if !output.status.success() {
            return Err(refusal(&output, &attempted()));
        }
        if output.stdout.trim_ascii().is_empty() {
            return Ok(None);
        }
        let printed = serde_json::from_slice(&output.stdout);
        printed.map(Some).map_err(|error| {
            Error::new(
                Code::Decode,
                format!("{}: printed no result: {error}", attempted()),
            )
        })
    }

    fn execute(&self, verb: &str, environment: &Environment, stdin: &[u8]) -> io::Result<Output> {
        let mut child = Command::new(&self.path)
            .env("CNI_COMMAND", verb)
            .env("CNI_CONTAINERID", &environment.container_id)
            .env("CNI_NETNS", &environment.netns)
            .env("CNI_IFNAME", &environment.if_name)
            .env("CNI_ARGS", &environment.args)
            .env("CNI_PATH", &environment.path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit())
            .spawn()?;
        let pipe = child.stdin.take();
        thread::scope(|scope| {
            // One that has seen enough does not read the rest; its exit code says how it went.
            scope.spawn(|| pipe.map(|mut pipe| pipe.write_all(stdin)));
            child.wait_with_output()
        })
    }
}

/// The plugin's own error, code and all.
fn refusal(output: &Output, attempted: &str) -> Error {
    match serde_json::from_slice(&output.stdout) {
        Ok(Printed { code, msg, details }) => {
            Error::new(Code::Foreign(code), msg).with_details(details)
        }
        Err(_) => Error::new(
            Code::Internal,
            format!(
                "{attempted}: netplugin failed: {}: {:?}",
                output.status,
                String::from_utf8_lossy(&output.stdout)
            ),
        ),
    }
}
