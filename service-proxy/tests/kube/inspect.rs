//! `list`, `diff` and `explain` by what the API server has.

use std::process::{Command, Output};

use lab::apiserver::{ApiServer, Server};

use crate::node::{NODE, Proxy, on_node, service, slice};

fn inspect(server: &Server, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_service-proxy"));
    command
        .args(arguments)
        .args(["--master", &server.url(), "--hostname-override", NODE]);
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[test]
fn what_the_api_server_has_is_looked_at() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1, 2])).unwrap();
        let missing = inspect(&server, &["diff"]);
        assert_eq!(missing.status.code(), Some(1), "{missing:?}");
        assert!(text(&missing).contains("10.96.7.1"), "{missing:?}");

        let _proxy = Proxy::start(&server, &[]);
        let same = inspect(&server, &["diff"]);
        assert!(same.status.success() && same.stdout.is_empty(), "{same:?}");
        let list = inspect(&server, &["list"]);
        for word in ["web1", "10.96.7.1"] {
            assert!(text(&list).contains(word), "{list:?}");
        }
        let explained = inspect(&server, &["explain", "10.244.0.1", "10.96.7.1:80"]);
        for word in ["lab-proxy/web1:http", "10.244.0.1:8080", "10.244.0.2:8080"] {
            assert!(text(&explained).contains(word), "{explained:?}");
        }
        assert!(!text(&explained).contains("MISSING"), "{explained:?}");
    });
}
