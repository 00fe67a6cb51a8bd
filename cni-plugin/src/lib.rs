//! One CNI plugin binary, called by many names: `flannel`, `bridge`, `host-local`, `portmap`, `bandwidth`,
//! `tuning` and `loopback`. `cni-plugin install DIR` puts it there under all of them. A static one is built by
//! `RUSTFLAGS='-C target-feature=+crt-static' cargo build --release -p cni-plugin --target x86_64-unknown-linux-gnu`.
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
//! A call is logged, by one line, where `CNI_LOG_FILE` or the key `logFile` names a file.
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

/// The name under which the binary is no plugin, but installs itself.
const INSTALLER: &str = "cni-plugin";
/// Exit code where the arguments are not understood.
const USAGE: u8 = 2;

/// Answers one call: `program` is the path that the binary was called by, `arguments` what came behind it,
/// `variable` looks up an environment variable. Plugins take no arguments and ignore them, as Go's do.
pub fn run(
    program: &OsStr,
    arguments: &[OsString],
    variable: impl Fn(&str) -> Option<OsString>,
    stdin: &mut dyn Read,
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> ExitCode {
    let name = Path::new(program).file_name().unwrap_or_default();
    let printed = match Plugin::by_name(name) {
        Some(plugin) => call(plugin, variable, stdin, stdout, stderr),
        None if name == INSTALLER => install(arguments, stdout, stderr),
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
        Ok(environment) => {
            let mut journal = report::Journal::start(&environment);
            let answer = protocol::answer(plugin, &environment, stdin, &mut journal);
            let noted = answer.as_deref();
            // A log that can't be written costs no container its network.
            drop(journal.finish(plugin.name(), &environment, noted));
            answer
        }
        Err(error) => Err(error),
    };
    match answer {
        Ok(text) => print(&text, ExitCode::SUCCESS, stdout),
        Err(error) => print(&report::error(&error), ExitCode::FAILURE, stdout),
    }
}

/// `cni-plugin install DIR [CONFLIST FILE]`, or `--version`.
fn install(
    arguments: &[OsString],
    stdout: &mut dyn Write,
    stderr: &mut dyn Write,
) -> io::Result<ExitCode> {
    let (directory, conflist) = match arguments {
        [flag] if flag == "--version" => {
            return print(&report::version(), ExitCode::SUCCESS, stdout);
        }
        [command, directory] if command == "install" => (Path::new(directory), None),
        [command, directory, from, to] if command == "install" => {
            (Path::new(directory), Some((Path::new(from), Path::new(to))))
        }
        _ => return write!(stderr, "{}", report::usage()).map(|()| ExitCode::from(USAGE)),
    };
    let installed = source::install(directory, &Plugin::ALL.map(Plugin::name));
    let told = installed.and_then(|installed| {
        let mut told = report::installed(&installed);
        if let Some((from, to)) = conflist {
            source::install_conflist(from, to, directory)?;
            told.push_str(&report::installed_conflist(to));
        }
        Ok(told)
    });
    match told {
        Ok(told) => print(&told, ExitCode::SUCCESS, stdout),
        Err(error) => writeln!(stderr, "cni-plugin install: {error}").map(|()| ExitCode::FAILURE),
    }
}

/// Prints all of it: a runtime that reads half a result has to be told by the exit code.
fn print(text: &str, code: ExitCode, stdout: &mut dyn Write) -> io::Result<ExitCode> {
    stdout.write_all(text.as_bytes())?;
    stdout.flush()?;
    Ok(code)
}

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, collections::BTreeSet};

    use super::*;

    #[test]
    fn every_variable_is_in_the_reference() {
        let asked = RefCell::new(BTreeSet::new());
        run(
            OsStr::new("/opt/cni/bin/bridge"),
            &[],
            |name| {
                asked.borrow_mut().insert(name.to_owned());
                None
            },
            &mut io::empty(),
            &mut io::sink(),
            &mut io::sink(),
        );
        reference::every_key_is_documented("Variables", &asked.into_inner());
    }
}
