//! Events in the cluster.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
};

use lab::apiserver::{ApiServer, Fault, Server, Verb};
use serde_json::json;

use crate::node::{
    NAMESPACE, NODE, Proxy, eventually, eventually_served_by, on_node, service, slice,
};

/// All that the server has, as text.
fn events(server: &Server) -> String {
    let url = server.url();
    let at = url.trim_start_matches("http://").trim_end_matches('/');
    let mut stream = TcpStream::connect(at).unwrap();
    write!(
        stream,
        "GET /apis/events.k8s.io/v1/events HTTP/1.1\r\nHost: {at}\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

fn eventually_told(server: &Server, words: &[&str]) {
    eventually(
        || format!("{words:?} in {}", events(server)),
        || {
            let events = events(server);
            words.iter().all(|word| events.contains(word))
        },
    );
}

#[test]
fn what_kube_proxy_tells_is_told() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        let taken = TcpListener::bind("0.0.0.0:32000").unwrap();
        let mut balanced = service(1);
        balanced["spec"]["type"] = json!("LoadBalancer");
        balanced["spec"]["externalTrafficPolicy"] = json!("Local");
        balanced["spec"]["healthCheckNodePort"] = json!(32000);
        server.apply(balanced).unwrap();
        server.apply(slice(1, &[1])).unwrap();
        let proxy = Proxy::start(&server, &[]);
        let instance = format!("kube-proxy-{NODE}");
        eventually_told(&server, &["\"Starting\"", "StartKubeProxy", &instance]);
        eventually_told(
            &server,
            &[
                "FailedToStartServiceHealthcheck",
                "0.0.0.0:32000",
                NAMESPACE,
            ],
        );
        let told = events(&server);
        let failed = told.matches("FailedToStartServiceHealthcheck").count();
        assert_eq!(failed, 1, "{told}\n{}", proxy.log());
        drop(taken);
    });
}

#[test]
fn events_that_can_not_be_written_are_told_of_once_and_keep_nothing_up() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        let forbidden = Fault::answer(403).on(Verb::Create, "events").times(100);
        server.stand_in().unwrap().faults().add(forbidden);
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1])).unwrap();
        let proxy = Proxy::start(&server, &[]);
        eventually_served_by(1, &[1]);
        proxy.wait_for("events.events.k8s.io");
        assert_eq!(proxy.complaints().len(), 1, "{}", proxy.log());
    });
}
