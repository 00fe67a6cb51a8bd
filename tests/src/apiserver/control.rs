//! Control over HTTP, for tests and people outside the server's process: everything below `/_lab`.
//!
//! ```text
//! GET    /_lab/counters                        requests by kind of object and verb, open watches
//! POST   /_lab/faults      a Fault as JSON     {"effect": "answer", "code": 429, "retry_after": 1, "times": 3}
//! DELETE /_lab/faults                          takes back what did not happen yet
//! POST   /_lab/watches/ORDER                   end, cut, expire, hold, release
//! POST   /_lab/compact                         forgets the history
//! POST   /_lab/connections/refuse?times=N      closes the next N connections
//! POST   /_lab/away?milliseconds=N             stops listening for so long; the state is kept, but the
//!                                              connection goes too, perhaps before the answer
//! POST   /_lab/streaming-lists?enabled=BOOL    whether sendInitialEvents is offered
//! POST   /_lab/gone-by-http?enabled=BOOL       whether a too old watch is answered with HTTP 410
//! POST   /_lab/objects     an object as JSON   stored with its status and unchecked, so it may be rubbish
//! POST   /_lab/lines?apiVersion=V&kind=K       the body is sent as it is to all watches of the kind
//! ```

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State as Shared},
    http::StatusCode,
    response::Response,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    State, failure::Failure, faults::Fault, http::json_response, resource::Resource, write,
};

/// An answer, or the reason why nothing was done.
type Answer = Result<Response, Failure>;

#[derive(Deserialize)]
struct Times {
    times: u32,
}

#[derive(Deserialize)]
struct Milliseconds {
    milliseconds: u64,
}

#[derive(Deserialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Kind {
    api_version: String,
    kind: String,
}

/// The routes below `/_lab`.
pub fn router() -> Router<Arc<State>> {
    Router::new()
        .route("/counters", get(counters))
        .route("/faults", post(add_fault).delete(clear_faults))
        .route("/watches/{order}", post(order_watches))
        .route("/compact", post(compact))
        .route("/connections/refuse", post(refuse_connections))
        .route("/away", post(away))
        .route("/streaming-lists", post(streaming_lists))
        .route("/gone-by-http", post(gone_by_http))
        .route("/objects", post(apply))
        .route("/lines", post(send_line))
}

async fn counters(Shared(state): Shared<Arc<State>>) -> Response {
    let mut requests: BTreeMap<String, Value> = BTreeMap::new();
    for ((resource, verb), count) in state.counters.all() {
        requests.entry(resource).or_insert(json!({}))[json!(verb).as_str().unwrap_or_default()] =
            count.into();
    }
    let counted = json!({"requests": requests, "openWatches": state.counters.open_watches()});
    json_response(StatusCode::OK, counted.to_string())
}

async fn add_fault(Shared(state): Shared<Arc<State>>, body: Bytes) -> Answer {
    let fault: Fault = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body is no fault: {error}")))?;
    state.faults.add(fault);
    Ok(done())
}

async fn clear_faults(Shared(state): Shared<Arc<State>>) -> Response {
    state.faults.clear();
    done()
}

async fn order_watches(Shared(state): Shared<Arc<State>>, Path(order): Path<String>) -> Answer {
    match order.as_str() {
        "end" => state.faults.end_watches(),
        "cut" => state.faults.cut_watches(),
        "expire" => state.faults.expire_watches(),
        "hold" => state.faults.hold_watches(true),
        "release" => state.faults.hold_watches(false),
        other => {
            return Err(Failure::bad_request(format!(
                "{other:?} is none of end, cut, expire, hold, release"
            )));
        }
    }
    Ok(done())
}

async fn compact(Shared(state): Shared<Arc<State>>) -> Response {
    state.store.write(super::store::Inner::compact);
    done()
}

async fn refuse_connections(
    Shared(state): Shared<Arc<State>>,
    Query(Times { times }): Query<Times>,
) -> Response {
    state.faults.refuse_connections(times);
    done()
}

async fn away(
    Shared(state): Shared<Arc<State>>,
    Query(Milliseconds { milliseconds }): Query<Milliseconds>,
) -> Response {
    state.life.go_away(Duration::from_millis(milliseconds));
    done()
}

async fn streaming_lists(
    Shared(state): Shared<Arc<State>>,
    Query(Enabled { enabled }): Query<Enabled>,
) -> Response {
    state.faults.offer_streaming_lists(enabled);
    done()
}

async fn gone_by_http(
    Shared(state): Shared<Arc<State>>,
    Query(Enabled { enabled }): Query<Enabled>,
) -> Response {
    state.faults.answer_gone_by_http(enabled);
    done()
}

async fn apply(Shared(state): Shared<Arc<State>>, body: Bytes) -> Answer {
    let value = serde_json::from_slice(&body)
        .map_err(|error| Failure::bad_request(format!("the body is no JSON: {error}")))?;
    state.store.write(|inner| write::apply(inner, value))?;
    Ok(done())
}

async fn send_line(
    Shared(state): Shared<Arc<State>>,
    Query(Kind { api_version, kind }): Query<Kind>,
    body: Bytes,
) -> Answer {
    let resource = Resource::by_kind(&api_version, &kind).ok_or_else(Failure::unknown_path)?;
    state.store.write(|inner| inner.inject(resource, body));
    Ok(done())
}

fn done() -> Response {
    json_response(StatusCode::OK, "{}")
}
