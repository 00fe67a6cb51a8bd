//! `subnet.env`, written by the flannel agent.

use std::{fs, io, path::Path};

use crate::model::{Code, Error, SubnetEnv};

/// Reads the file. A missing one is an error to try again after: the agent is about to write it.
pub fn read(path: &Path) -> Result<SubnetEnv, Error> {
    let file = path.display().to_string();
    let failed = |code, reason: &dyn std::fmt::Display| {
        Error::new(
            code,
            format!(
                "failed to load flannel 'subnet.env' file: {reason}. Check the flannel pod log for this node."
            ),
        )
    };
    let text = fs::read_to_string(path).map_err(|error| {
        let code = match error.kind() {
            io::ErrorKind::NotFound => Code::TryAgainLater,
            _ => Code::Io,
        };
        failed(code, &Error::io(format!("open {file}"), &error))
    })?;
    SubnetEnv::parse(&file, &text).map_err(|error| failed(Code::Internal, &error))
}
