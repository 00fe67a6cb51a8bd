//! How flags are given: with one dash or two, or in the environment.

use std::ffi::OsString;

use clap::CommandFactory;

use super::Options;

/// What every environment variable of flannel begins with.
const ENVIRONMENT: &str = "FLANNELD_";

/// Go's flags have one dash or two.
pub(super) fn double_dash(argument: String) -> String {
    let is_name =
        |text: &str| text.len() > 1 && text.starts_with(|c: char| c.is_ascii_alphabetic());
    match argument.strip_prefix('-') {
        Some(name) if is_name(name) => format!("--{name}"),
        _ => argument,
    }
}

/// The flags that the environment stands for and the command line does not have.
pub(super) fn from_environment(
    arguments: &[String],
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Vec<String> {
    let mut flags = Vec::new();
    for (variable, value) in environment {
        let (Some(variable), false) = (variable.to_str(), value.is_empty()) else {
            continue;
        };
        let Some(name) = variable.strip_prefix(ENVIRONMENT) else {
            continue;
        };
        let name = name.to_ascii_lowercase().replace('_', "-");
        if is_flag(&name) && !is_given(arguments, &name) {
            flags.push(format!("--{name}={}", value.to_string_lossy()));
        }
    }
    flags
}

fn is_flag(name: &str) -> bool {
    Options::command()
        .get_arguments()
        .any(|argument| argument.get_long() == Some(name) && argument.get_action().takes_values())
}

fn is_given(arguments: &[String], name: &str) -> bool {
    arguments.iter().any(|argument| {
        // -v has but one dash.
        let given = argument
            .strip_prefix("--")
            .or_else(|| argument.strip_prefix('-'))
            .and_then(|given| given.split('=').next());
        given.is_some_and(|given| given.replace('_', "-") == name)
    })
}
