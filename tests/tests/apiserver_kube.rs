//! The `kube` crate as client of the API server: the stand-in, or the real one where the environment names it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{collections::BTreeSet, pin::pin, time::Duration};

use futures_util::{Stream, StreamExt, future};
use k8s_openapi::api::{
    core::v1::{Node, Service},
    discovery::v1::EndpointSlice,
};
use kube::{
    Api, Client, Config, ResourceExt,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    discovery::Discovery,
    runtime::watcher::{self, Event, watcher},
};
use lab::apiserver::{ApiServer, Fault, Server, Verb};
use serde_json::{Value, json};

const NAMESPACE: &str = "lab-kube";

/// Only decides when a test that fails gives up.
const PATIENCE: Duration = Duration::from_secs(30);

async fn client(server: &Server) -> Client {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("kubeconfig");
    server.kubeconfig(&path).unwrap();
    let file = Kubeconfig::read_from(path).unwrap();
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await;
    Client::try_from(config.unwrap()).unwrap()
}

fn stand_in() -> Server {
    Server::StandIn(ApiServer::start().unwrap())
}

fn service(name: &str, address: u8) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {"clusterIP": format!("10.96.7.{address}"), "ports": [{"port": 80}]},
    })
}

fn configs() -> [watcher::Config; 3] {
    let config = watcher::Config::default;
    [config(), config().page_size(2), config().streaming_lists()]
}

/// The names of a whole initial list, and how many errors came before it.
async fn initial(
    events: &mut (impl Stream<Item = watcher::Result<Event<Service>>> + Unpin),
) -> (BTreeSet<String>, Vec<watcher::Error>) {
    let (mut names, mut errors) = (BTreeSet::new(), Vec::new());
    loop {
        match next(events).await {
            Ok(Event::Init) => names.clear(),
            Ok(Event::InitApply(service)) => drop(names.insert(service.name_any())),
            Ok(Event::InitDone) => return (names, errors),
            Ok(other) => panic!("not a part of an initial list: {other:?}"),
            // These watchers do not pause after an error: one that comes again and again is a failure.
            Err(error) if errors.len() > 100 => panic!("{error:?}"),
            Err(error) => errors.push(error),
        }
    }
}

async fn next(
    events: &mut (impl Stream<Item = watcher::Result<Event<Service>>> + Unpin),
) -> watcher::Result<Event<Service>> {
    tokio::time::timeout(PATIENCE, events.next())
        .await
        .expect("an event in time")
        .expect("a watcher never ends")
}

fn set(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

/// Runs a test on a runtime of its own; the real server's own runtime can't be used inside one.
fn on_runtime<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.unwrap().block_on(test)
}

/// Calls the server's own blocking functions beside the runtime.
fn beside<T: Send>(call: impl FnOnce() -> T + Send) -> T {
    std::thread::scope(|scope| scope.spawn(call).join().unwrap())
}

#[test]
fn a_watcher_sees_the_list_and_then_every_change() {
    let server = Server::start().unwrap();
    for (index, name) in ["a", "b", "c"].into_iter().enumerate() {
        let address = 10 + u8::try_from(index).unwrap();
        server.apply(service(name, address)).unwrap();
    }
    on_runtime(async {
        let services: Api<Service> = Api::namespaced(client(&server).await, NAMESPACE);
        for config in configs() {
            let mut events = pin!(watcher(services.clone(), config));
            let (names, errors) = initial(&mut events).await;
            assert_eq!(names, set(&["a", "b", "c"]));
            assert!(errors.is_empty(), "{errors:?}");

            beside(|| server.apply(service("d", 20)).unwrap());
            assert!(
                matches!(next(&mut events).await, Ok(Event::Apply(object)) if object.name_any() == "d")
            );
            beside(|| server.delete("v1", "Service", NAMESPACE, "d").unwrap());
            assert!(
                matches!(next(&mut events).await, Ok(Event::Delete(object)) if object.name_any() == "d")
            );
        }
    });
}

#[test]
fn nodes_are_patched_as_flannel_does() {
    let server = Server::start().unwrap();
    server
        .apply(json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "node1"},
            "spec": {"podCIDR": "10.42.1.0/24", "podCIDRs": ["10.42.1.0/24"]},
            "status": {"conditions": [
                {"type": "Ready", "status": "True"},
                {"type": "NetworkUnavailable", "status": "True"},
            ]},
        }))
        .unwrap();
    on_runtime(async {
        let nodes: Api<Node> = Api::all(client(&server).await);
        let patch = json!({
            "metadata": {"annotations": {"flannel.alpha.coreos.com/backend-type": "vxlan"}},
            "status": {"conditions": [
                {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
            ]},
        });
        let patched = nodes
            .patch_status("node1", &PatchParams::default(), &Patch::Strategic(&patch))
            .await
            .unwrap();
        assert_eq!(
            patched.annotations()["flannel.alpha.coreos.com/backend-type"],
            "vxlan"
        );
        let conditions = patched.status.unwrap().conditions.unwrap();
        let found: Vec<_> = conditions
            .iter()
            .map(|condition| (condition.type_.as_str(), condition.status.as_str()))
            .collect();
        assert_eq!(found, [("Ready", "True"), ("NetworkUnavailable", "False")]);

        let merge = json!({"metadata": {"annotations": {"a": "b"}}});
        let params = PatchParams::default();
        let merged = nodes
            .patch("node1", &params, &Patch::Merge(&merge))
            .await
            .unwrap();
        assert_eq!(merged.annotations().len(), 2);
        assert_eq!(merged.spec.unwrap().pod_cidrs.unwrap(), ["10.42.1.0/24"]);
    });
}

#[test]
fn objects_are_created_replaced_and_deleted() {
    let server = Server::start().unwrap();
    on_runtime(async {
        let client = client(&server).await;
        let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), "default");
        let slice: EndpointSlice = serde_json::from_value(json!({
            "metadata": {"generateName": "web-", "labels": {"kubernetes.io/service-name": "web"}},
            "addressType": "IPv4",
            "endpoints": [{"addresses": ["10.42.1.7"]}],
            "ports": [{"port": 80}],
        }))
        .unwrap();
        let mut created = slices.create(&PostParams::default(), &slice).await.unwrap();
        let name = created.name_any();
        assert!(name.starts_with("web-") && name.len() > 4, "{name}");
        assert_eq!(created.metadata.generation, Some(1));

        created.endpoints[0].addresses = vec!["10.42.1.8".into()];
        let replaced = slices
            .replace(&name, &PostParams::default(), &created)
            .await
            .unwrap();
        assert_eq!(replaced.metadata.generation, Some(2));
        let conflict = slices
            .replace(&name, &PostParams::default(), &created)
            .await;
        assert!(matches!(conflict, Err(kube::Error::Api(status)) if status.code == 409));

        let of_web = ListParams::default().labels("kubernetes.io/service-name=web");
        assert_eq!(slices.list(&of_web).await.unwrap().items.len(), 1);
        slices
            .delete(&name, &DeleteParams::default())
            .await
            .unwrap();
        assert_eq!(slices.get_opt(&name).await.unwrap(), None);

        let discovery = Discovery::new(client).run().await.unwrap();
        assert!(discovery.has_group("discovery.k8s.io"));
    });
}

#[test]
fn a_watcher_lists_again_after_compaction() {
    let server = stand_in();
    let stand_in = server.stand_in().unwrap();
    server.apply(service("a", 10)).unwrap();
    on_runtime(async {
        let services: Api<Service> = Api::namespaced(client(&server).await, NAMESPACE);
        for config in configs() {
            let mut events = pin!(watcher(services.clone(), config));
            initial(&mut events).await;
            // What is new is not told, and forgotten: the watch can't go on, nor be taken up again.
            let waiting = future::poll_immediate(events.next()).await;
            assert!(waiting.is_none(), "{waiting:?}");
            stand_in.faults().hold_watches(true);
            server.apply(service("b", 11)).unwrap();
            stand_in.compact();
            stand_in.faults().end_watches();
            stand_in.faults().hold_watches(false);
            let (names, errors) = initial(&mut events).await;
            assert_eq!(names, set(&["a", "b"]));
            assert!(
                !errors.is_empty(),
                "a watch from a compacted revision is an error"
            );
            server.delete("v1", "Service", NAMESPACE, "b").unwrap();
        }
    });
}

#[test]
fn a_watcher_gets_over_half_a_list_and_an_absent_server() {
    let server = stand_in();
    let stand_in = server.stand_in().unwrap();
    for name in ["a", "b"] {
        server.apply(service(name, 10)).unwrap();
    }
    on_runtime(async {
        let services: Api<Service> = Api::namespaced(client(&server).await, NAMESPACE);
        for config in configs() {
            for verb in [Verb::List, Verb::Watch] {
                stand_in.faults().add(Fault::cut().on(verb, "services"));
            }
            let requests = || {
                let count = |verb| stand_in.counters().requests("services", verb);
                count(Verb::List) + count(Verb::Watch)
            };
            let before = requests();
            let mut events = pin!(watcher(services.clone(), config));
            // Half a streaming list is no error to kube: it just begins anew.
            let (names, _) = initial(&mut events).await;
            assert_eq!(names, set(&["a", "b"]));
            assert!(requests() >= before + 2, "asked once more");
            stand_in.faults().clear();

            stand_in.stop_listening().unwrap();
            server.apply(service("c", 12)).unwrap();
            assert!(next(&mut events).await.is_err());
            stand_in.listen_again().unwrap();
            let told = loop {
                match next(&mut events).await {
                    Ok(event) => break event,
                    Err(error) => eprintln!("{error:?}"),
                }
            };
            assert!(
                matches!(told, Event::Apply(object) if object.name_any() == "c"),
                "no relist"
            );
            server.delete("v1", "Service", NAMESPACE, "c").unwrap();
        }
    });
}

#[test]
fn a_large_list_is_the_same_in_pages_and_in_one_piece_and_1000_changes_arrive() {
    let server = stand_in();
    let stand_in = server.stand_in().unwrap();
    let name = |index: usize| format!("s{index:05}");
    for index in 0..3000 {
        server.apply(service(&name(index), 10)).unwrap();
    }
    on_runtime(async {
        let services: Api<Service> = Api::all(client(&server).await);
        let whole = services.list(&ListParams::default()).await.unwrap();
        assert_eq!(whole.items.len(), 3001, "with default/kubernetes");
        let mut events = pin!(watcher(
            services.clone(),
            watcher::Config::default().page_size(500)
        ));
        let (names, errors) = initial(&mut events).await;
        assert!(errors.is_empty(), "{errors:?}");
        assert_eq!(names, whole.iter().map(ResourceExt::name_any).collect());
        assert_eq!(stand_in.counters().requests("services", Verb::List), 1 + 7);
        for index in 0..1000 {
            server.apply(service(&name(index), 11)).unwrap();
        }
        for index in 0..1000 {
            let told = next(&mut events).await;
            assert!(matches!(told, Ok(Event::Apply(object)) if object.name_any() == name(index)));
        }
    });
}
