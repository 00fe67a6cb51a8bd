//! What the lab's commands print need not be read to its end.

#![allow(clippy::unwrap_used)]

use std::{
    io,
    process::{Command, Stdio},
};

#[test]
fn a_closed_pipe_is_no_trouble() {
    let name = format!("u{}", std::process::id());
    for arguments in [&["down", "--name", &name][..], &["--help"], &["--version"]] {
        let (_, closed) = io::pipe().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
        command
            .args(arguments)
            .stdout(closed)
            .stderr(Stdio::piped());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        assert_eq!(output.stderr, b"", "{arguments:?}: {output:?}");
    }
}
