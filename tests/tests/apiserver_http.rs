//! The API server stand-in as plain HTTP sees it: forms of errors, versions of lists, lines of watches.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    time::Duration,
};

use kernel::netns::Namespace;
use lab::apiserver::{ApiServer, Fault, Options, Verb};
use serde_json::{Value, json};

const SERVICES: &str = "/api/v1/namespaces/x/services";
const STREAMING: &str =
    "watch=1&sendInitialEvents=true&allowWatchBookmarks=true&resourceVersionMatch=NotOlderThan";

/// An answer: the status line's code, the headers, and what follows.
struct Answer {
    code: u16,
    headers: String,
    body: BufReader<TcpStream>,
}

// === impl Answer ===

impl Answer {
    fn text(mut self) -> String {
        let mut text = String::new();
        self.body.read_to_string(&mut text).unwrap();
        text
    }

    fn json(self) -> Value {
        serde_json::from_str(&self.text()).unwrap()
    }

    /// The next event of a watch: its type, and the object's name or the Status' code.
    fn event(&mut self) -> (String, Value) {
        let mut line = String::new();
        self.body.read_line(&mut line).unwrap();
        let mut event: Value = serde_json::from_str(&line).expect(&line);
        let kind = event["type"].as_str().unwrap().to_owned();
        (kind, event["object"].take())
    }

    fn named_event(&mut self) -> (String, String) {
        let (kind, object) = self.event();
        (
            kind,
            object["metadata"]["name"].as_str().unwrap().to_owned(),
        )
    }
}

/// Sends a request in HTTP/1.0, whose answers are not in chunks and end with the connection.
fn send(to: SocketAddr, method: &str, path: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(to).unwrap();
    // Only decides when a test that fails gives up.
    stream
        .set_read_timeout(Some(Duration::from_secs(30)))
        .unwrap();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.0\r\nHost: {to}\r\nContent-Length: {length}\r\n{headers}\r\n{body}"
    )
    .unwrap();
    let mut body = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert_ne!(
            body.read_line(&mut head).unwrap(),
            0,
            "the answer ends in its head: {head:?}"
        );
    }
    let code = head.split_whitespace().nth(1).unwrap().parse().unwrap();
    Answer {
        code,
        headers: head.to_lowercase(),
        body,
    }
}

fn get(server: &ApiServer, path: &str) -> Answer {
    send(server.address(), "GET", path, "", "")
}

fn request(server: &ApiServer, method: &str, path: &str, body: &Value) -> (u16, Value) {
    let answer = send(server.address(), method, path, "", &body.to_string());
    (answer.code, answer.json())
}

fn patch(server: &ApiServer, path: &str, media_type: &str, body: &Value) -> (u16, Value) {
    let header = format!("Content-Type: {media_type}\r\n");
    let answer = send(server.address(), "PATCH", path, &header, &body.to_string());
    (answer.code, answer.json())
}

fn service(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "x", "labels": {"app": name}},
        "spec": {"clusterIP": "10.96.7.7", "ports": [{"port": 80}]},
    })
}

fn server_with(names: &[&str]) -> ApiServer {
    let server = ApiServer::start().unwrap();
    for name in names {
        server.apply(service(name)).unwrap();
    }
    server
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().unwrap();
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().unwrap())
        .collect()
}

fn status_of(answer: Answer) -> (u16, String) {
    let code = answer.code;
    let status = answer.json();
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["apiVersion"], "v1");
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["code"], code);
    (code, status["reason"].as_str().unwrap().to_owned())
}

#[test]
fn errors_are_status_objects() {
    let server = server_with(&["a"]);
    for (method, path, body, expected) in [
        (
            "GET",
            format!("{SERVICES}/b"),
            json!(null),
            (404, "NotFound"),
        ),
        (
            "GET",
            "/api/v1/nowhere".to_owned(),
            json!(null),
            (404, "NotFound"),
        ),
        (
            "POST",
            SERVICES.to_owned(),
            service("a"),
            (409, "AlreadyExists"),
        ),
        (
            "POST",
            "/api/v1/namespaces/none/services".to_owned(),
            json!({"metadata": {"name": "a"}}),
            (404, "NotFound"),
        ),
        (
            "POST",
            SERVICES.to_owned(),
            json!({"metadata": {}}),
            (422, "Invalid"),
        ),
        (
            "POST",
            SERVICES.to_owned(),
            json!({"kind": "Node", "metadata": {"name": "b"}}),
            (400, "BadRequest"),
        ),
        (
            "PUT",
            format!("{SERVICES}/b"),
            service("b"),
            (404, "NotFound"),
        ),
        (
            "PUT",
            format!("{SERVICES}/b"),
            service("a"),
            (400, "BadRequest"),
        ),
        (
            "PATCH",
            format!("{SERVICES}/a"),
            json!({}),
            (415, "UnsupportedMediaType"),
        ),
        (
            "POST",
            format!("{SERVICES}/a"),
            json!({}),
            (405, "MethodNotAllowed"),
        ),
        (
            "GET",
            format!("{SERVICES}?labelSelector=a+b"),
            json!(null),
            (400, "BadRequest"),
        ),
        (
            "GET",
            format!("{SERVICES}?resourceVersion=999999"),
            json!(null),
            (504, "Timeout"),
        ),
        (
            "GET",
            format!("{SERVICES}?continue=rubbish"),
            json!(null),
            (400, "BadRequest"),
        ),
    ] {
        let answer = send(server.address(), method, &path, "", &body.to_string());
        let (code, reason) = status_of(answer);
        assert_eq!((code, reason.as_str()), expected, "{method} {path}");
    }
    let missing = get(&server, &format!("{SERVICES}/b")).json();
    assert_eq!(missing["message"], r#"services "b" not found"#);
    assert_eq!(missing["details"], json!({"name": "b", "kind": "services"}));
}

#[test]
fn a_write_against_an_old_version_is_a_conflict_and_one_without_effect_is_none() {
    let server = server_with(&["a"]);
    let path = format!("{SERVICES}/a");
    let first = get(&server, &path).json();
    let mut second = first.clone();
    second["spec"]["sessionAffinity"] = "ClientIP".into();
    let (code, written) = request(&server, "PUT", &path, &second);
    assert_eq!(code, 200);
    assert_ne!(
        written["metadata"]["resourceVersion"],
        first["metadata"]["resourceVersion"]
    );
    assert_eq!(written["metadata"]["uid"], first["metadata"]["uid"]);

    let (code, status) = request(&server, "PUT", &path, &first);
    assert_eq!((code, &status["reason"]), (409, &json!("Conflict")));

    let before = server.revision();
    let (code, unchanged) = request(&server, "PUT", &path, &written);
    assert_eq!((code, &unchanged), (200, &written));
    assert_eq!(server.revision(), before);
}

#[test]
fn the_status_is_written_through_its_subresource_alone() {
    let server = server_with(&["a"]);
    let path = format!("{SERVICES}/a");
    let merge = "application/merge-patch+json";
    let both = json!({
        "metadata": {"annotations": {"by": "test"}},
        "spec": {"type": "LoadBalancer"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let (code, changed) = patch(&server, &path, merge, &both);
    assert_eq!(code, 200);
    assert_eq!(changed["spec"]["type"], "LoadBalancer");
    assert_eq!(changed["status"], json!({"loadBalancer": {}}));

    let other = json!({
        "metadata": {"annotations": {"by": "status"}},
        "spec": {"type": "NodePort"},
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}},
    });
    let (code, changed) = patch(&server, &format!("{path}/status"), merge, &other);
    assert_eq!(code, 200);
    assert_eq!(changed["spec"]["type"], "LoadBalancer");
    assert_eq!(
        changed["status"]["loadBalancer"]["ingress"][0]["ip"],
        "192.0.2.1"
    );
    assert_eq!(changed["metadata"]["annotations"]["by"], "status");

    let operations = json!([
        {"op": "test", "path": "/spec/type", "value": "LoadBalancer"},
        {"op": "replace", "path": "/spec/type", "value": "ClusterIP"},
    ]);
    let json_patch = "application/json-patch+json";
    let (code, changed) = patch(&server, &path, json_patch, &operations);
    assert_eq!((code, &changed["spec"]["type"]), (200, &json!("ClusterIP")));
    let (code, status) = patch(&server, &path, json_patch, &operations);
    assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
}

#[test]
fn finalizers_keep_an_object_until_they_are_gone() {
    let server = server_with(&[]);
    let mut held = service("a");
    held["metadata"]["finalizers"] = json!(["lab/keep"]);
    server.apply(held).unwrap();
    let path = format!("{SERVICES}/a");
    let (code, marked) = request(&server, "DELETE", &path, &json!({}));
    assert_eq!(code, 200);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(get(&server, &path).code, 200);
    let free = json!({"metadata": {"finalizers": null}});
    patch(&server, &path, "application/merge-patch+json", &free);
    assert_eq!(get(&server, &path).code, 404);
}

#[test]
fn pages_show_the_state_of_the_first_one_until_it_is_compacted() {
    let server = server_with(&["a", "b", "c", "d"]);
    let first = get(&server, &format!("{SERVICES}?limit=2")).json();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["kind"], "ServiceList");
    assert_eq!(first["metadata"]["remainingItemCount"], 2);
    assert_eq!(first["items"][0].get("kind"), None);
    let next = first["metadata"]["continue"].as_str().unwrap();
    let version = first["metadata"]["resourceVersion"].as_str().unwrap();

    server.delete("v1", "Service", "x", "c").unwrap();
    server.apply(service("bb")).unwrap();
    let second = get(&server, &format!("{SERVICES}?limit=2&continue={next}")).json();
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["metadata"]["resourceVersion"], version);
    assert_eq!(second["metadata"].get("continue"), None);
    let exact = format!("{SERVICES}?resourceVersion={version}&resourceVersionMatch=Exact");
    assert_eq!(names(&get(&server, &exact).json()), ["a", "b", "c", "d"]);
    let newer = format!("{SERVICES}?resourceVersion={version}&resourceVersionMatch=NotOlderThan");
    assert_eq!(names(&get(&server, &newer).json()), ["a", "b", "bb", "d"]);

    server.compact();
    assert_eq!(status_of(get(&server, &exact)), (410, "Expired".to_owned()));
    let expired = get(&server, &format!("{SERVICES}?limit=2&continue={next}"));
    assert_eq!(expired.code, 410);
    let status = expired.json();
    assert_eq!(status["reason"], "Expired");
    let inconsistent = status["metadata"]["continue"].as_str().unwrap();
    let rest = get(
        &server,
        &format!("{SERVICES}?limit=2&continue={inconsistent}"),
    )
    .json();
    assert_eq!(names(&rest), ["bb", "d"]);
}

#[test]
fn selectors_choose_what_a_list_shows() {
    let server = server_with(&["a", "b"]);
    for (query, expected) in [
        ("labelSelector=app%3Da", vec!["a"]),
        ("labelSelector=app%20in%20(a,b)", vec!["a", "b"]),
        ("labelSelector=!app", vec![]),
        ("fieldSelector=metadata.name%3Db", vec!["b"]),
        ("fieldSelector=spec.clusterIP!%3DNone", vec!["a", "b"]),
    ] {
        let list = get(&server, &format!("{SERVICES}?{query}")).json();
        assert_eq!(names(&list), expected, "{query}");
    }
}

#[test]
fn a_watch_tells_what_enters_and_leaves_its_selector() {
    let server = server_with(&["a"]);
    let from = server.revision();
    let path = format!("{SERVICES}?watch=1&resourceVersion={from}&labelSelector=app%3Da");
    let mut watch = get(&server, &path);
    assert_eq!(watch.code, 200);
    assert!(
        watch.headers.contains("application/json"),
        "{}",
        watch.headers
    );
    let mut other = service("a");
    other["metadata"]["labels"] = json!({"app": "other"});
    let mut annotated = service("a");
    annotated["metadata"]["annotations"] = json!({"k": "v"});
    server.apply(service("b")).unwrap();
    server.apply(annotated).unwrap();
    let left_at = server.apply(other).unwrap();
    server.apply(service("a")).unwrap();
    server.delete("v1", "Service", "x", "a").unwrap();

    let (kind, object) = watch.event();
    assert_eq!(
        (kind.as_str(), &object["metadata"]["annotations"]["k"]),
        ("MODIFIED", &json!("v"))
    );
    assert_eq!(
        (&object["kind"], &object["apiVersion"]),
        (&json!("Service"), &json!("v1"))
    );
    let (kind, object) = watch.event();
    assert_eq!(kind, "DELETED");
    assert_eq!(
        object["metadata"]["labels"]["app"], "a",
        "the object as it was in view"
    );
    assert_eq!(object["metadata"]["resourceVersion"], left_at.to_string());
    assert_eq!(watch.named_event(), ("ADDED".into(), "a".into()));
    let (kind, object) = watch.event();
    assert_eq!(kind, "DELETED");
    assert_eq!(
        object["metadata"]["resourceVersion"],
        server.revision().to_string()
    );
}

#[test]
fn a_streaming_list_ends_with_a_marked_bookmark() {
    let server = server_with(&["a", "b"]);
    let mut watch = get(&server, &format!("{SERVICES}?{STREAMING}"));
    assert_eq!(watch.named_event(), ("ADDED".into(), "a".into()));
    assert_eq!(watch.named_event(), ("ADDED".into(), "b".into()));
    let (kind, object) = watch.event();
    assert_eq!(kind, "BOOKMARK");
    assert_eq!(
        object["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    assert_eq!(
        object["metadata"]["resourceVersion"],
        server.revision().to_string()
    );
    server.apply(service("c")).unwrap();
    assert_eq!(watch.named_event(), ("ADDED".into(), "c".into()));

    server.faults().offer_streaming_lists(false);
    let refused = get(&server, &format!("{SERVICES}?{STREAMING}"));
    assert_eq!(status_of(refused), (422, "Invalid".to_owned()));
}

#[test]
fn bookmarks_tell_of_changes_elsewhere_and_a_watch_ends_after_its_time() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options {
        bookmark_interval: Duration::from_millis(20),
        ..Options::default()
    };
    let server = ApiServer::start_on(listener, options).unwrap();
    let from = server.revision();
    server.apply(service("a")).unwrap();
    let path = format!(
        "/api/v1/nodes?watch=1&resourceVersion={from}&allowWatchBookmarks=true&timeoutSeconds=1"
    );
    let mut watch = get(&server, &path);
    let (kind, object) = watch.event();
    assert_eq!(
        (kind.as_str(), &object["kind"]),
        ("BOOKMARK", &json!("Node"))
    );
    assert_eq!(
        object["metadata"]["resourceVersion"],
        server.revision().to_string()
    );
    // Reads to the end, which comes by itself.
    assert!(watch.text().lines().all(|line| line.contains("BOOKMARK")));
}

#[test]
fn a_watch_from_a_compacted_version_gets_410() {
    let server = server_with(&["a"]);
    let from = server.revision();
    let path = format!("{SERVICES}?watch=1&resourceVersion={from}");
    server.apply(service("b")).unwrap();
    server.compact();
    let mut watch = get(&server, &path);
    assert_eq!(
        watch.code, 200,
        "as the real server, which says so in the stream"
    );
    let (kind, status) = watch.event();
    assert_eq!((kind.as_str(), &status["code"]), ("ERROR", &json!(410)));
    assert_eq!(status["reason"], "Expired");
    assert_eq!(watch.text(), "");

    server.faults().answer_gone_by_http(true);
    assert_eq!(status_of(get(&server, &path)), (410, "Expired".to_owned()));
}

#[test]
fn running_watches_can_be_ended_cut_expired_and_held() {
    let server = server_with(&["a"]);
    let open = || {
        let mut watch = get(&server, &format!("{SERVICES}?watch=1"));
        assert_eq!(watch.named_event(), ("ADDED".into(), "a".into()));
        watch
    };
    let watch = open();
    server.faults().end_watches();
    assert_eq!(watch.text(), "");

    let mut watch = open();
    server.faults().cut_watches();
    let mut rest = Vec::new();
    // Whether the client sees an end or a reset depends on what was still in flight.
    if let Err(error) = watch.body.read_to_end(&mut rest) {
        eprintln!("the cut connection: {error}");
    }
    assert!(rest.starts_with(b"{\"type\""), "{rest:?}");
    assert!(serde_json::from_slice::<Value>(&rest).is_err());

    let mut watch = open();
    server.faults().expire_watches();
    assert_eq!(watch.event().1["code"], 410);

    let mut watch = open();
    server.faults().hold_watches(true);
    server.apply(service("b")).unwrap();
    server.compact();
    server.faults().hold_watches(false);
    assert_eq!(watch.event().1["code"], 410);

    let mut watch = open();
    server.send_line("v1", "Service", "rubbish\n").unwrap();
    let mut line = String::new();
    // The object that the watch before was not told of.
    assert_eq!(watch.named_event(), ("ADDED".into(), "b".into()));
    watch.body.read_line(&mut line).unwrap();
    assert_eq!(line, "rubbish\n");
}

#[test]
fn faults_happen_to_the_requests_they_are_meant_for() {
    let server = server_with(&["a", "b"]);
    let faults = server.faults();
    faults.add(Fault::too_many_requests(7).on(Verb::List, "services"));
    assert_eq!(get(&server, &format!("{SERVICES}/a")).code, 200);
    let refused = get(&server, SERVICES);
    assert!(
        refused.headers.contains("retry-after: 7"),
        "{}",
        refused.headers
    );
    assert_eq!(status_of(refused), (429, "TooManyRequests".to_owned()));
    assert_eq!(names(&get(&server, SERVICES).json()), ["a", "b"]);

    faults.add(Fault::cut().on(Verb::List, "services"));
    let mut half = Vec::new();
    let mut answer = get(&server, SERVICES);
    if let Err(error) = answer.body.read_to_end(&mut half) {
        eprintln!("the cut connection: {error}");
    }
    assert!(half.starts_with(b"{\"kind\":\"ServiceList\""));
    assert!(serde_json::from_slice::<Value>(&half).is_err());

    let fault = json!({"effect": "answer", "code": 500, "times": 2});
    assert_eq!(request(&server, "POST", "/_lab/faults", &fault).0, 200);
    assert_eq!(
        status_of(get(&server, SERVICES)),
        (500, "InternalError".to_owned())
    );
    assert_eq!(
        request(&server, "DELETE", "/_lab/faults", &json!(null)).0,
        200
    );
    assert_eq!(get(&server, SERVICES).code, 200);

    assert_eq!(server.counters().requests("services", Verb::List), 5);
    let counted = get(&server, "/_lab/counters").json();
    assert_eq!(
        counted["requests"]["services"],
        json!({"get": 1, "list": 5})
    );
}

#[test]
fn connections_can_be_closed_and_requests_left_without_an_answer() {
    let server = server_with(&["a"]);
    let ask = || {
        let mut stream = TcpStream::connect(server.address()).unwrap();
        let request = format!("GET {SERVICES} HTTP/1.0\r\n\r\n");
        // A connection that is closed already may refuse the request, or swallow it.
        let mut answer = String::new();
        let outcome = stream
            .write_all(request.as_bytes())
            .and_then(|()| stream.read_to_string(&mut answer));
        outcome.map_or(String::new(), |_| answer)
    };
    server.faults().refuse_connections(2);
    assert_eq!((ask().as_str(), ask().as_str()), ("", ""));
    assert!(ask().starts_with("HTTP/1.0 200"));
    server.faults().add(Fault::hang_up());
    assert!(!ask().contains("items"));
    assert!(ask().contains("items"));
}

#[test]
fn a_token_is_asked_for_where_one_is_set() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let options = Options {
        token: Some("secret".into()),
        ..Options::default()
    };
    let server = ApiServer::start_on(listener, options).unwrap();
    let ask = |headers| send(server.address(), "GET", "/api/v1/nodes", headers, "");
    assert_eq!(status_of(ask("")), (401, "Unauthorized".to_owned()));
    assert_eq!(ask("Authorization: Bearer wrong\r\n").code, 401);
    assert_eq!(ask("Authorization: Bearer secret\r\n").code, 200);
}

#[test]
fn only_json_is_spoken() {
    let server = server_with(&[]);
    let ask = |accept: &str| {
        let header = format!("Accept: {accept}\r\n");
        send(server.address(), "GET", SERVICES, &header, "").code
    };
    assert_eq!(ask("application/vnd.kubernetes.protobuf"), 406);
    assert_eq!(
        ask("application/vnd.kubernetes.protobuf, application/json"),
        200
    );
    assert_eq!(
        ask("application/json;as=Table;v=v1;g=meta.k8s.io,application/json"),
        200
    );
    assert_eq!(ask("*/*"), 200);
}

#[test]
fn discovery_names_what_is_served() {
    let server = server_with(&[]);
    let groups = get(&server, "/apis").json();
    assert_eq!(groups["groups"][0]["name"], "discovery.k8s.io");
    let core = get(&server, "/api/v1").json();
    let resources = core["resources"].as_array().unwrap();
    assert!(
        resources
            .iter()
            .any(|resource| resource["name"] == "nodes/status")
    );
    let slices = get(&server, "/apis/discovery.k8s.io/v1").json();
    assert_eq!(slices["resources"][0]["kind"], "EndpointSlice");
    assert_eq!(get(&server, "/version").json()["major"], "1");
    assert_eq!(get(&server, "/readyz").text(), "ok");
}

#[test]
fn a_server_in_a_namespace_can_go_away_and_come_back_with_its_state() {
    let name = format!("tweed-api-{}", std::process::id());
    let namespace = Namespace::create_named(&name).unwrap();
    let _deleted = Deleted(name);
    let listener = namespace
        .run(|| {
            kernel_loopback_up();
            TcpListener::bind("127.0.0.1:6443").unwrap()
        })
        .unwrap();
    let server = ApiServer::start_on(listener, Options::default()).unwrap();
    server.apply(service("a")).unwrap();
    let list = || names_of(&namespace, server.address());
    assert_eq!(list(), Some(vec!["a".to_owned()]));
    server.stop_listening().unwrap();
    assert_eq!(list(), None);
    server.apply(service("b")).unwrap();
    server.listen_again().unwrap();
    assert_eq!(list(), Some(vec!["a".to_owned(), "b".to_owned()]));
}

#[test]
fn a_server_asked_over_http_goes_away_for_a_while() {
    let server = server_with(&["a"]);
    let mut watch = get(&server, &format!("{SERVICES}?watch=1"));
    assert_eq!(watch.named_event(), ("ADDED".into(), "a".into()));
    let mut stream = TcpStream::connect(server.address()).unwrap();
    // There may be no answer: the connection goes with the server.
    write!(stream, "POST /_lab/away?milliseconds=50 HTTP/1.0\r\n\r\n").unwrap();
    let mut rest = Vec::new();
    if let Err(error) = watch.body.read_to_end(&mut rest) {
        eprintln!("the connection that went away: {error}");
    }
    lab::wait_until("the server to be back", || {
        Ok(TcpStream::connect(server.address()).is_ok())
    })
    .unwrap();
    assert_eq!(names(&get(&server, SERVICES).json()), ["a"]);
}

/// Deletes a namespace, whatever becomes of the test.
struct Deleted(String);

impl Drop for Deleted {
    fn drop(&mut self) {
        Namespace::delete_named(&self.0).unwrap();
    }
}

fn kernel_loopback_up() {
    let up = std::process::Command::new("ip")
        .args(["link", "set", "lo", "up"])
        .status();
    assert!(up.unwrap().success());
}

/// The names of the Services, or `None` when the connection is refused.
fn names_of(namespace: &Namespace, address: SocketAddr) -> Option<Vec<String>> {
    namespace
        .run(|| {
            if let Err(error) = TcpStream::connect(address) {
                assert_eq!(error.kind(), std::io::ErrorKind::ConnectionRefused);
                return None;
            }
            let list = send(address, "GET", SERVICES, "", "").json();
            Some(names(&list).into_iter().map(str::to_owned).collect())
        })
        .unwrap()
}
