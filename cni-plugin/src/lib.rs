//! One CNI plugin binary, called by many names: `flannel`, `bridge` and `host-local`.
//!
//! A runtime calls it with a configuration on stdin and the rest in `CNI_*` variables, and reads a result
//! or an error object from stdout (CNI specification 1.1.0). Where flannel delegates to bridge, and bridge
//! to host-local, that is a function call inside this process. State on disk and results have the form of
//! the reference plugins, so that a node can change from those to this one and back with pods running.
//!
//! The rooms, in the order that a call walks through them: `source` (environment, files) -> `model` (what
//! was said, checked) -> `plan` (pure: what should be) -> `plugin` (does it, by the `kernel` crate) ->
//! `report` (what is printed). `protocol` is the order in which a plugin has to check what it was given.
//!
//! CHECK names what is missing of what the ADD made; GC removes what containers left that the runtime does
//! not list, and does nothing without a list; STATUS is cheap and changes nothing. Keys of the bridge plugin
//! that this build does not know are refused by name.

mod model;
mod plan;
mod plugin;
mod protocol;
mod report;
mod source;

use std::{
    ffi::{OsStr, OsString},
    io::{self, Read, Write},
    path::Path,
    process::ExitCode,
};

use crate::{plugin::Plugin, source::Environment};

/// Answers one call: `program` is the path that the binary was called by, `variable` looks up an
/// environment variable.
pub fn run(
    program: &OsStr,
    variable: impl Fn(&str) -> Option<OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> ExitCode {
    let name = Path::new(program).file_name().unwrap_or_default();
    let printed = match Plugin::by_name(name) {
        Some(plugin) => call(plugin, variable, stdin, stdout, stderr),
        None => write!(stderr, "{}", report::unknown_name(name)).map(|()| ExitCode::FAILURE),
    };
    // Where printing fails, the exit code is all that is left to tell it by.
    printed.unwrap_or(ExitCode::FAILURE)
}

fn call(
    plugin: Plugin,
    variable: impl Fn(&str) -> Option<OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<ExitCode> {
    let answer = match Environment::read(variable) {
        Ok(environment) if environment.command.is_empty() => {
            write!(stderr, "{}", report::about(plugin))?;
            return Ok(ExitCode::SUCCESS);
        }
        Ok(environment) => protocol::answer(plugin, &environment, stdin),
        Err(error) => Err(error),
    };
    match answer {
        Ok(text) => print(&text, ExitCode::SUCCESS, stdout),
        Err(error) => print(&report::error(&error), ExitCode::FAILURE, stdout),
    }
}

/// Prints all of it: a runtime that reads half a result has to be told by the exit code.
fn print(text: &str, code: ExitCode, stdout: &mut dyn Write) -> io::Result<ExitCode> {
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(code)
}
