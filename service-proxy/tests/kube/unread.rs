//! Output that nobody reads, as behind `| head`, or in the log of a runtime that has ended.

use std::{
    io,
    process::{Child, Command, Stdio},
};

use lab::apiserver::{ApiServer, Server};

use crate::node::{NODE, Proxy, eventually_served_by, on_node, service, slice};

/// The program, with standard output or standard error into a pipe that nobody reads.
fn unread(server: &Server, arguments: &[&str], end: impl FnOnce(&mut Command, Stdio)) -> Child {
    let (_, closed) = io::pipe().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-proxy"));
    command
        .args(arguments)
        .args(["--master", &server.url(), "--hostname-override", NODE]);
    end(&mut command, closed.into());
    command.spawn().unwrap()
}

#[test]
fn what_is_printed() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1, 2])).unwrap();
        for (arguments, expected) in [
            (&["list"][..], 0),
            (&["list", "--json"], 0),
            (&["diff"], 1),
            (&["explain", "10.244.0.1", "10.96.7.1:80"], 0),
            (&["--help"], 0),
            (&["--version"], 0),
            (&["list", "--help"], 0),
        ] {
            let child = unread(&server, arguments, |command, closed| {
                command.stdout(closed).stderr(Stdio::piped());
            });
            let output = child.wait_with_output().unwrap();
            assert_eq!(output.status.code(), Some(expected), "{arguments:?}");
            assert_eq!(output.stderr, b"", "{arguments:?}: {output:?}");
        }
        let mut child = unread(&server, &["--no-such-flag"], |command, closed| {
            command.stderr(closed);
        });
        assert_eq!(child.wait().unwrap().code(), Some(2));
    });
}

#[test]
fn what_is_logged() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1, 2])).unwrap();
        let mut proxy = Proxy::start_unheard(&server);
        eventually_served_by(1, &[1, 2]);
        server.apply(slice(1, &[2, 3])).unwrap();
        eventually_served_by(1, &[2, 3]);
        assert!(proxy.is_running());
    });
}
