//! Following Nodes and writing to them, against the API server: the stand-in, or the real one where
//! `KUBE_APISERVER` and `ETCD` name its binaries.

use std::{collections::BTreeMap, time::Duration};

use flannel_agent::{
    model::{Node, Snapshot},
    report::Metrics,
    source::kube::{Access, AnnotationPrefix, Followed, Nodes, follow},
};
use kernel::Family;
use lab::apiserver::{ApiServer, Fault, Server, Verb};
use serde_json::{Value, json};
use tokio::sync::watch;

const BACKEND_DATA: &str = r#"{"VNI":1,"VtepMAC":"c6:d2:32:6f:8f:44"}"#;

/// Only decides when a test that fails gives up.
const PATIENCE: Duration = Duration::from_secs(30);

/// A Node as Go flannel leaves it.
pub fn go_node(name: &str, number: u8) -> Value {
    let prefix = "flannel.alpha.coreos.com";
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "annotations": {
            format!("{prefix}/kube-subnet-manager"): "true",
            format!("{prefix}/backend-type"): "vxlan",
            format!("{prefix}/backend-data"): BACKEND_DATA,
            format!("{prefix}/public-ip"): format!("192.168.64.{number}"),
        }},
        "spec": {"podCIDR": format!("10.244.{number}.0/24"), "podCIDRs": [format!("10.244.{number}.0/24")]},
    })
}

/// A Node that no agent has been on.
pub fn new_node(name: &str, pod_cidrs: &[&str]) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"podCIDR": pod_cidrs.first(), "podCIDRs": pod_cidrs},
    })
}

/// The server, and what is known of it.
struct Following {
    server: Server,
    nodes: Nodes,
    own: watch::Receiver<Option<Node>>,
    others: watch::Receiver<Option<Snapshot>>,
}

// === impl Following ===

impl Following {
    /// Runs a test beside the following of what a server has.
    fn run(server: Server, test: impl AsyncFnOnce(&mut Self)) {
        if server.stand_in().is_some() {
            eprintln!("KUBE_APISERVER and ETCD are not set: this runs against the stand-in alone");
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("kubeconfig");
        server.kubeconfig(&path).unwrap();
        crate::lab::runtime().block_on(async {
            let access = Access {
                kubeconfig: Some(path),
                ..Access::default()
            };
            let client = access.client().await.unwrap();
            let prefix = AnnotationPrefix::parse("flannel.alpha.coreos.com").unwrap();
            let nodes = Nodes::new(client, prefix, "own".into(), Metrics::default());
            let followed = Followed {
                own: watch::Sender::new(None),
                others: watch::Sender::new(None),
            };
            let mut following = Self {
                server,
                nodes: nodes.clone(),
                own: followed.own.subscribe(),
                others: followed.others.subscribe(),
            };
            tokio::select! {
                never = follow(&nodes, &followed) => match never {},
                () = test(&mut following) => {}
            }
        });
    }

    /// Calls the server's own blocking functions beside the runtime.
    fn server<T: Send>(&self, call: impl FnOnce(&Server) -> T + Send) -> T {
        std::thread::scope(|scope| scope.spawn(|| call(&self.server)).join().unwrap())
    }

    fn apply(&self, object: Value) {
        self.server(|server| server.apply(object).unwrap());
    }

    /// Waits until the others' leases are these, by name and subnet.
    async fn others_are(&mut self, expected: &[&str]) {
        let text = |snapshot: &Option<Snapshot>| -> Option<Vec<String>> {
            let entries = snapshot.as_ref()?.entries.iter();
            let texts = entries.map(|(name, entry)| match &entry.lease {
                Ok(lease) => format!("{name} {}", lease.key),
                Err(error) => format!("{name} {error}"),
            });
            Some(texts.collect())
        };
        let is =
            |snapshot: &Option<Snapshot>| text(snapshot).is_some_and(|texts| texts == *expected);
        let waited = tokio::time::timeout(PATIENCE, self.others.wait_for(is))
            .await
            .is_ok();
        if !waited {
            panic!("{:?} and not {expected:?}", text(&self.others.borrow()));
        }
    }

    async fn own_is(&mut self, what: &str, condition: impl Fn(&Node) -> bool) -> Node {
        let is = |node: &Option<Node>| node.as_ref().is_some_and(&condition);
        let waited = tokio::time::timeout(PATIENCE, self.own.wait_for(is)).await;
        let node = waited.unwrap_or_else(|_| panic!("in vain waited until {what}"));
        node.unwrap().clone().unwrap()
    }
}

fn stand_in() -> Server {
    Server::StandIn(ApiServer::start().unwrap())
}

#[test]
fn nodes_are_followed_from_a_list_through_changes_to_deletion() {
    let server = Server::start().unwrap();
    server.apply(go_node("a", 1)).unwrap();
    server
        .apply(new_node("own", &["10.244.7.0/24", "fd00:244:7::/64"]))
        .unwrap();
    server
        .apply(new_node("unmanaged", &["10.244.9.0/24"]))
        .unwrap();
    Following::run(server, async |it| {
        it.others_are(&["a 10.244.1.0-24"]).await;
        let own = it.own_is("it is known", |_| true).await;
        assert_eq!(own.pod_cidrs, ["10.244.7.0/24", "fd00:244:7::/64"]);
        assert!(!own.uid.is_empty());
        it.apply(go_node("b", 2));
        it.others_are(&["a 10.244.1.0-24", "b 10.244.2.0-24"]).await;
        it.server(|server| server.delete("v1", "Node", "", "a").unwrap());
        it.others_are(&["b 10.244.2.0-24"]).await;
    });
}

#[test]
fn annotations_and_the_condition_are_written_by_patch() {
    let server = Server::start().unwrap();
    let mut own = new_node("own", &["10.244.7.0/24"]);
    own["metadata"]["annotations"] = json!({
        "example.org/other": "stays",
        "flannel.alpha.coreos.com/public-ipv6": "fd00::1",
    });
    server.apply(own).unwrap();
    Following::run(server, async |it| {
        let changes = BTreeMap::from([
            ("public-ip", Some("192.168.64.7".to_owned())),
            ("backend-data", Some(BACKEND_DATA.to_owned())),
            ("public-ipv6", None),
        ]);
        it.nodes.annotate(&changes).await.unwrap();
        let own = it
            .own_is("it is annotated", |own| {
                own.annotations.contains_key("public-ip")
            })
            .await;
        let written: Vec<_> = own.annotations.into_iter().collect();
        assert_eq!(
            written,
            [
                ("backend-data".to_owned(), BACKEND_DATA.to_owned()),
                ("public-ip".to_owned(), "192.168.64.7".to_owned()),
            ]
        );
        it.nodes.set_network_available().await.unwrap();
        let own = it
            .own_is("it has the condition", |own| {
                own.network_unavailable.is_some()
            })
            .await;
        let condition = ("False".to_owned(), "FlannelIsUp".to_owned());
        assert_eq!(own.network_unavailable, Some(condition));
        assert_eq!(own.pod_cidrs, ["10.244.7.0/24"]);
    });
}

#[test]
fn a_change_of_the_ipv6_part_alone_is_noticed() {
    let dual = |mac: &str| {
        let mut node = go_node("a", 1);
        node["spec"]["podCIDRs"] = json!(["10.244.1.0/24", "fd00:244:1::/64"]);
        let annotations = &mut node["metadata"]["annotations"];
        annotations["flannel.alpha.coreos.com/public-ipv6"] = "fd64::1".into();
        annotations["flannel.alpha.coreos.com/backend-v6-data"] =
            format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#).into();
        node
    };
    let server = Server::start().unwrap();
    server.apply(dual("ba:00:00:00:00:01")).unwrap();
    Following::run(server, async |it| {
        it.others_are(&["a 10.244.1.0-24&fd00:244:1::-64"]).await;
        it.apply(dual("ba:00:00:00:00:02"));
        let is_new = |snapshot: &Option<Snapshot>| {
            let lease = snapshot.as_ref().and_then(|it| it.leases().next());
            let mac = lease.and_then(|it| Some(it.attributes.vtep(Family::V6)?.mac));
            mac.is_some_and(|mac| mac.to_string() == "ba:00:00:00:00:02")
        };
        let waited = tokio::time::timeout(PATIENCE, it.others.wait_for(is_new));
        assert!(waited.await.is_ok());
    });
}

#[test]
fn a_bad_node_stops_no_other() {
    let server = stand_in();
    let mut bad = go_node("bad", 8);
    bad["metadata"]["annotations"]["flannel.alpha.coreos.com/backend-data"] = "{".into();
    server.apply(bad).unwrap();
    Following::run(server, async |it| {
        let error = "bad it does not say how to reach it: backend-data: \
                     EOF while parsing an object at line 1 column 1";
        it.others_are(&[error]).await;
        it.server(|server| {
            let server = server.stand_in().unwrap();
            server
                .send_line("v1", "Node", "{\"type\":\"ADDED\",\"object\":7}\n")
                .unwrap();
        });
        it.apply(go_node("b", 2));
        it.others_are(&["b 10.244.2.0-24", error]).await;
    });
}

#[test]
fn nothing_is_lost_when_watches_end_break_or_are_too_old() {
    let server = stand_in();
    server.apply(go_node("a", 1)).unwrap();
    Following::run(server, async |it| {
        it.others_are(&["a 10.244.1.0-24"]).await;
        let faults: [fn(&ApiServer); 4] = [
            |server| server.faults().end_watches(),
            |server| server.faults().cut_watches(),
            |server| server.faults().expire_watches(),
            |server| {
                server.faults().answer_gone_by_http(true);
                server.compact();
                server.faults().expire_watches();
            },
        ];
        for fault in faults {
            it.server(|server| {
                let server = server.stand_in().unwrap();
                // What happens while nobody watches.
                server.faults().hold_watches(true);
                server.apply(go_node("b", 2)).unwrap();
                fault(server);
                server.faults().hold_watches(false);
            });
            it.others_are(&["a 10.244.1.0-24", "b 10.244.2.0-24"]).await;
            it.server(|server| {
                let server = server.stand_in().unwrap();
                server.faults().hold_watches(true);
                server.delete("v1", "Node", "", "b").unwrap();
                fault(server);
                server.faults().hold_watches(false);
            });
            it.others_are(&["a 10.244.1.0-24"]).await;
        }
    });
}

#[test]
fn a_server_that_refuses_every_watch_is_not_asked_without_pause() {
    let server = stand_in();
    server.apply(go_node("a", 1)).unwrap();
    let gone = Fault::answer(410).times(1000).on(Verb::Watch, "nodes");
    server.stand_in().unwrap().faults().add(gone);
    Following::run(server, async |it| {
        it.others_are(&["a 10.244.1.0-24"]).await;
        tokio::time::sleep(Duration::from_secs(2)).await;
        let counted = it.server(|server| {
            let counters = server.stand_in().unwrap().counters();
            counters.requests("nodes", Verb::Watch)
        });
        // Waits of 50 ms at least that double.
        assert!((2..=12).contains(&counted), "{counted} watches");
    });
}

#[test]
fn a_restarted_server_is_found_again() {
    let server = stand_in();
    server.apply(go_node("a", 1)).unwrap();
    Following::run(server, async |it| {
        it.others_are(&["a 10.244.1.0-24"]).await;
        it.server(|server| {
            let server = server.stand_in().unwrap();
            server.stop_listening().unwrap();
            server.apply(go_node("b", 2)).unwrap();
        });
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(it.others.borrow().as_ref().unwrap().entries.len(), 1);
        it.server(|server| server.stand_in().unwrap().listen_again().unwrap());
        it.others_are(&["a 10.244.1.0-24", "b 10.244.2.0-24"]).await;
    });
}
