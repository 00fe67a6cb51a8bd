//! The Kubernetes API as source: the real program on a node, asked by real connections, whatever the API
//! server does. With `KUBE_APISERVER` and `ETCD` naming binaries, what the real server can do runs against it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod configuration;
mod cost;
mod events;
mod inspect;
mod node;
mod unread;

use lab::apiserver::{ApiServer, Fault, Server, Verb};
use serde_json::json;

use node::{
    NAMESPACE, NODE, Proxy, Traffic, eventually, eventually_served_by, eventually_silent,
    eventually_unserved, nft, on_node, service, slice,
};

const SLICE: (&str, &str) = ("discovery.k8s.io/v1", "EndpointSlice");
const SLICES: &str = "endpointslices";
/// As they are counted.
const SLICES_COUNTED: &str = "endpointslices.discovery.k8s.io";

/// A server with one Service by endpoints 1 and 2, and a proxy that has it.
fn running(streaming: bool) -> (Server, Proxy) {
    let server = ApiServer::start().unwrap();
    server.faults().offer_streaming_lists(streaming);
    let server = Server::StandIn(server);
    server.apply(service(1)).unwrap();
    server.apply(slice(1, &[1, 2])).unwrap();
    let proxy = Proxy::start(&server, &[]);
    eventually_served_by(1, &[1, 2]);
    (server, proxy)
}

fn stand_in(server: &Server) -> &ApiServer {
    server.stand_in().unwrap()
}

/// Runs an incident of the API server with traffic on a Service, and a change while it lasts. Asserts that
/// traffic goes on, the change arrives, and one line complains of it.
fn survives(
    streaming: bool,
    words: &[&str],
    incident: impl FnOnce(&ApiServer) + Send,
    end: impl FnOnce(&ApiServer) + Send,
) {
    on_node(|| {
        let (server, proxy) = running(streaming);
        let traffic = Traffic::start(1);
        incident(stand_in(&server));
        server.apply(slice(1, &[2, 3])).unwrap();
        end(stand_in(&server));
        eventually_served_by(1, &[2, 3]);
        proxy.wait_for("everything is followed again");
        traffic.assert_uninterrupted();
        let complaints = proxy.complaints();
        assert_eq!(complaints.len(), words.len(), "{}", proxy.log());
        for (complaint, words) in complaints.iter().zip(words) {
            assert!(complaint.contains(words), "{complaints:?}");
        }
    });
}

#[test]
fn changes_arrive() {
    on_node(|| {
        if std::env::var_os("KUBE_APISERVER").is_none() || std::env::var_os("ETCD").is_none() {
            println!("KUBE_APISERVER and ETCD name no binaries: runs against the stand-in alone");
        }
        let server = Server::start().unwrap();
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1, 2])).unwrap();
        let proxy = Proxy::start(&server, &[]);
        eventually_served_by(1, &[1, 2]);
        server.apply(slice(1, &[2, 3])).unwrap();
        eventually_served_by(1, &[2, 3]);
        server.apply(service(2)).unwrap();
        server.apply(slice(2, &[4])).unwrap();
        eventually_served_by(2, &[4]);

        let mut others = service(2);
        others["metadata"]["labels"] = json!({"service.kubernetes.io/service-proxy-name": "other"});
        server.apply(others).unwrap();
        eventually_unserved(2);
        server.apply(service(2)).unwrap();
        eventually_served_by(2, &[4]);

        let mut headless = slice(2, &[4]);
        headless["metadata"]["labels"]["service.kubernetes.io/headless"] = json!("");
        server.apply(headless).unwrap();
        eventually_unserved(2);

        let (version, kind) = SLICE;
        server.delete(version, kind, NAMESPACE, "web1-1").unwrap();
        eventually_unserved(1);
        assert_eq!(proxy.complaints(), [""; 0]);
    });
}

#[test]
fn nothing_is_programmed_before_both_lists_are_complete() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1])).unwrap();
        // The list of slices fails again and again, which that of Services does not wait for.
        let fault = Fault::answer(500).on(Verb::Watch, SLICES).times(3);
        stand_in(&server).faults().add(fault);
        let proxy = Proxy::start_only(&server, &[]);
        eventually_served_by(1, &[1]);
        proxy.wait_for("first sync");
        proxy.wait_for("everything is followed again");
        let log = proxy.log();
        assert_eq!(proxy.complaints().len(), 1, "{log}");
        // Had the Service been programmed without its endpoints, this would have changed it.
        assert!(!log.contains("Services changed"), "{log}");
    });
}

#[test]
fn an_api_server_that_is_killed_and_comes_back() {
    survives(
        true,
        &["API server http://127.0.0.1:"],
        |server| server.stop_listening().unwrap(),
        |server| {
            std::thread::sleep(std::time::Duration::from_millis(700));
            server.listen_again().unwrap();
        },
    );
}

#[test]
fn history_that_was_compacted_is_listed_anew() {
    for by_http in [false, true] {
        survives(
            !by_http,
            &["too old resource version"],
            |server| {
                server.faults().answer_gone_by_http(by_http);
                server.faults().hold_watches(true);
            },
            |server| {
                server.apply(slice(1, &[2, 3])).unwrap();
                server.compact();
                server.faults().expire_watches();
                server.faults().hold_watches(false);
            },
        );
    }
}

#[test]
fn a_watch_that_is_cut_in_the_middle_of_an_event() {
    survives(
        true,
        &["; all that is known stays in force"],
        |server| server.faults().cut_watches(),
        |_| {},
    );
}

#[test]
fn half_a_list_takes_nothing_away() {
    for streaming in [true, false] {
        survives(
            streaming,
            &[
                "too old resource version",
                "; all that is known stays in force",
            ],
            |server| {
                let half = if streaming {
                    Fault::cut().on(Verb::Watch, SLICES)
                } else {
                    Fault::cut().on(Verb::List, SLICES)
                };
                server.faults().add(half.times(3));
                server.compact();
                server.faults().expire_watches();
            },
            |_| {},
        );
    }
}

#[test]
fn rubbish_is_left_out_and_told_of_once() {
    on_node(|| {
        let (server, proxy) = running(true);
        let traffic = Traffic::start(1);
        let mut rubbish = slice(1, &[3]);
        rubbish["endpoints"][0]["addresses"][0] = json!("no address");
        for generation in 0..3 {
            rubbish["metadata"]["annotations"] = json!({"n": generation.to_string()});
            server.apply(rubbish.clone()).unwrap();
        }
        let mut rubbish = slice(9, &[3]);
        rubbish["endpoints"] = json!({"no": "list"});
        server.apply(rubbish).unwrap();
        // The others go on.
        server.apply(service(2)).unwrap();
        server.apply(slice(2, &[4])).unwrap();
        eventually_served_by(2, &[4]);
        let complaints = proxy.complaints();
        assert_eq!(complaints.len(), 2, "{complaints:?}");
        assert!(complaints[0].contains("web1-1"), "{complaints:?}");
        assert!(
            complaints[0].contains("endpoints[0].addresses[0]: \"no address\""),
            "{complaints:?}"
        );
        assert!(complaints[1].contains("web9-1"), "{complaints:?}");
        assert!(complaints[1].contains("endpoints"), "{complaints:?}");
        eventually_served_by(1, &[1, 2]);
        server.apply(slice(1, &[2, 3])).unwrap();
        eventually_served_by(1, &[2, 3]);
        traffic.assert_uninterrupted();
    });
}

#[test]
fn a_line_that_is_no_event_is_got_over() {
    on_node(|| {
        let (server, proxy) = running(true);
        let traffic = Traffic::start(1);
        let (version, kind) = SLICE;
        stand_in(&server)
            .send_line(version, kind, "{\"rubbish\n")
            .unwrap();
        server.apply(slice(1, &[2, 3])).unwrap();
        eventually_served_by(1, &[2, 3]);
        proxy.wait_for("everything is followed again");
        traffic.assert_uninterrupted();
        assert_eq!(proxy.complaints().len(), 1, "{}", proxy.log());
    });
}

#[test]
fn what_a_new_list_lacks_goes() {
    for streaming in [true, false] {
        on_node(|| {
            let (server, _proxy) = running(streaming);
            server.apply(service(2)).unwrap();
            server.apply(slice(2, &[4])).unwrap();
            eventually_served_by(2, &[4]);
            let server = stand_in(&server);
            server.stop_listening().unwrap();
            server.delete("v1", "Service", NAMESPACE, "web2").unwrap();
            server.compact();
            server.listen_again().unwrap();
            eventually_unserved(2);
            eventually_served_by(1, &[1, 2]);
        });
    }
}

#[test]
fn a_stream_that_was_refused_is_asked_for_again() {
    on_node(|| {
        let server = ApiServer::start().unwrap();
        let fault = Fault::answer(500).on(Verb::Watch, SLICES);
        server.faults().add(fault);
        let server = Server::StandIn(server);
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1])).unwrap();
        let _proxy = Proxy::start(&server, &[]);
        eventually_served_by(1, &[1]);
        let server = stand_in(&server);
        let lists = || server.counters().requests(SLICES_COUNTED, Verb::List);
        assert_eq!(lists(), 1, "the stream was not refused");
        server.stop_listening().unwrap();
        let slice = slice(1, &[2]);
        server.apply(slice).unwrap();
        server.compact();
        server.listen_again().unwrap();
        eventually_served_by(1, &[2]);
        assert_eq!(lists(), 1, "listed anew without asking for a stream");
    });
}

#[test]
fn the_node_and_its_zone_are_followed() {
    on_node(|| {
        let (server, _proxy) = running(true);
        let mut hinted = slice(1, &[1, 2]);
        for (endpoint, zone) in [(0, "a"), (1, "b")] {
            hinted["endpoints"][endpoint]["zone"] = json!(zone);
            hinted["endpoints"][endpoint]["hints"] = json!({"forZones": [{"name": zone}]});
        }
        server.apply(hinted).unwrap();
        for (zone, endpoints) in [("a", &[1][..]), ("b", &[2]), ("c", &[1, 2])] {
            let labels = json!({"topology.kubernetes.io/zone": zone});
            let node = json!({
                "apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE, "labels": labels},
            });
            server.apply(node).unwrap();
            eventually_served_by(1, endpoints);
        }
    });
}

#[test]
fn a_node_that_may_not_be_read_is_done_without() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        let forbidden = Fault::answer(403).on(Verb::Watch, "nodes").times(100);
        stand_in(&server).faults().add(forbidden);
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1])).unwrap();
        let proxy = Proxy::start(&server, &[]);
        eventually_served_by(1, &[1]);
        let complaints = proxy.complaints();
        assert_eq!(complaints.len(), 1, "{complaints:?}");
        assert!(
            complaints[0].contains("system:node-proxier"),
            "{complaints:?}"
        );
    });
}

#[test]
fn addresses_of_no_service_are_dropped_as_service_cidrs_say() {
    on_node(|| {
        let (server, proxy) = running(true);
        let dropped = |network: &str| {
            let family = if network.contains(':') { "ip6" } else { "ip" };
            eventually(
                || format!("{network} to be dropped"),
                || nft(&format!("list table {family} tweed-proxy")).contains(network),
            );
        };
        dropped("10.96.0.0/16");
        dropped("fd00:10:96::/112");
        let more = json!({
            "apiVersion": "networking.k8s.io/v1", "kind": "ServiceCIDR",
            "metadata": {"name": "more"}, "spec": {"cidrs": ["10.100.0.0/16"]},
        });
        server.apply(more).unwrap();
        dropped("10.100.0.0/16");
        eventually_silent([10, 100, 7, 7]);
        assert_eq!(proxy.complaints(), [""; 0]);
    });
}

#[test]
fn a_server_that_has_no_service_cidrs_is_told_of_once() {
    on_node(|| {
        let server = Server::StandIn(ApiServer::start().unwrap());
        let unknown = Fault::answer(404)
            .on(Verb::Watch, "servicecidrs")
            .times(100);
        stand_in(&server).faults().add(unknown);
        server.apply(service(1)).unwrap();
        server.apply(slice(1, &[1])).unwrap();
        let proxy = Proxy::start(&server, &[]);
        eventually_served_by(1, &[1]);
        let log = proxy.log();
        let told = log.matches("it has no servicecidrs.networking.k8s.io");
        assert_eq!(told.count(), 1, "{log}");
        assert_eq!(proxy.complaints(), [""; 0]);
    });
}
