//! Requests: who may ask, what is asked for, what is answered.

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    body::{Body, Bytes},
    extract::{DefaultBodyLimit, State as Shared},
    http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};
use tokio::time::sleep;

use super::{
    State, control,
    counters::Verb,
    discovery,
    failure::Failure,
    faults::Effect,
    list::Page,
    object::{Key, Object, text_at},
    patch::Patch,
    path::Target,
    query::{Parameters, Version},
    resource::Resource,
    watching::{Cut, Watch},
    write::{self, Part, Preconditions},
};

/// The real server's limit of a request's body.
const BODY_LIMIT: usize = 3 * 1024 * 1024;

/// A request to an object or a collection.
struct Request {
    target: Target,
    parameters: Parameters,
    headers: HeaderMap,
    body: Bytes,
}

/// All that the server answers to.
pub fn router(state: Arc<State>) -> Router {
    Router::new()
        .nest("/_lab", control::router())
        .fallback(serve)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .with_state(state)
}

/// An answer of JSON text.
pub fn json_response(status: StatusCode, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    response.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("application/json"),
    );
    response
}

async fn serve(
    Shared(state): Shared<Arc<State>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let answer = answer(&state, &method, &uri, headers, body).await;
    answer.unwrap_or_else(IntoResponse::into_response)
}

async fn answer(
    state: &Arc<State>,
    method: &Method,
    uri: &Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Failure> {
    authenticate(state, &headers)?;
    if ["/healthz", "/livez", "/readyz"].contains(&uri.path()) {
        return Ok("ok".into_response());
    }
    require_json_accepted(&headers)?;
    if let (&Method::GET, Some(found)) = (method, discovery::answer(uri.path())) {
        return Ok(json_response(StatusCode::OK, found.to_string()));
    }
    let request = Request {
        target: Target::parse(uri.path())?,
        parameters: Parameters::parse(uri)?,
        headers,
        body,
    };
    let verb = request.verb(method)?;
    let resource = request.target.resource();
    state.counters.count(&resource.to_string(), verb);
    let cut = match state.faults.take(verb, resource.plural) {
        Some(Effect::Answer { code, retry_after }) => {
            return Err(Failure::by_code(code, retry_after));
        }
        Some(Effect::HangUp) => return Ok(hang_up()),
        Some(Effect::Delay { milliseconds }) => {
            sleep(Duration::from_millis(milliseconds)).await;
            false
        }
        Some(Effect::Cut) => true,
        None => false,
    };
    request.dispatch(state, verb, cut)
}

// === impl Request ===

impl Request {
    fn verb(&self, method: &Method) -> Result<Verb, Failure> {
        let collection = matches!(self.target, Target::Collection { .. });
        match (method.as_str(), collection) {
            ("GET", true) if self.parameters.is_watch()? => Ok(Verb::Watch),
            ("GET", true) => Ok(Verb::List),
            ("GET", false) => Ok(Verb::Get),
            ("POST", true) => Ok(Verb::Create),
            ("PUT", false) => Ok(Verb::Update),
            ("PATCH", false) => Ok(Verb::Patch),
            ("DELETE", true) => Ok(Verb::DeleteCollection),
            ("DELETE", false) => Ok(Verb::Delete),
            _ => Err(Failure::method_not_allowed()),
        }
    }

    fn dispatch(self, state: &Arc<State>, verb: Verb, cut: bool) -> Result<Response, Failure> {
        if verb == Verb::Watch {
            return self.watch(state, cut);
        }
        let (status, body) = match verb {
            Verb::Create => (StatusCode::CREATED, self.create(state)?),
            Verb::List | Verb::Watch => (StatusCode::OK, self.list(state)?),
            Verb::DeleteCollection => (StatusCode::OK, self.delete_all(state)?),
            Verb::Get => (StatusCode::OK, self.get(state)?),
            Verb::Update => (StatusCode::OK, self.update(state)?),
            Verb::Patch => (StatusCode::OK, self.patch(state)?),
            Verb::Delete => (StatusCode::OK, self.delete(state)?),
        };
        let body = if cut { half(&body) } else { Body::from(body) };
        Ok(json_response(status, body))
    }

    fn watch(self, state: &Arc<State>, cut: bool) -> Result<Response, Failure> {
        let (resource, namespace) = self.collection()?;
        let options = self
            .parameters
            .watch(resource, state.faults.streaming_lists())?;
        let watch = Watch::start(state, resource, namespace.cloned(), options, cut)?;
        Ok(json_response(
            StatusCode::OK,
            Body::from_stream(watch.into_stream()),
        ))
    }

    fn list(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, namespace) = self.collection()?;
        let options = self.parameters.list(resource)?;
        let namespace = namespace.map(String::as_str);
        let page = Page::read(&state.store.read(), resource, namespace, &options)?;
        Ok(page.write())
    }

    fn get(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, key, _) = self.object()?;
        let inner = state.store.read();
        match self.parameters.revision()? {
            Some(asked) if asked > inner.revision() => {
                Err(Failure::too_large(asked, inner.revision()))
            }
            _ => inner
                .get(resource, key)
                .map(|object| object.whole(resource))
                .ok_or_else(|| Failure::not_found(resource, &key.name)),
        }
    }

    fn create(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, namespace) = self.collection()?;
        let namespace = match (resource.namespaced, namespace) {
            (true, None) => return Err(Failure::method_not_allowed()),
            (_, namespace) => namespace.map(String::as_str).unwrap_or_default(),
        };
        let value = self.object_in_body()?;
        let created = state
            .store
            .write(|inner| write::create(inner, resource, namespace, value))?;
        Ok(created.whole(resource))
    }

    fn update(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, key, part) = self.object()?;
        let value = self.object_in_body()?;
        let updated = state
            .store
            .write(|inner| write::update(inner, resource, key, part, value))?;
        Ok(updated.whole(resource))
    }

    fn patch(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, key, part) = self.object()?;
        let patch = Patch::parse(media_type(&self.headers), &self.body)?;
        let patched = state
            .store
            .write(|inner| write::patch(inner, resource, key, part, &patch))?;
        Ok(patched.whole(resource))
    }

    fn delete(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, key, part) = self.object()?;
        if part == Part::Status {
            return Err(Failure::method_not_allowed());
        }
        let preconditions = self.preconditions()?;
        let deleted = state
            .store
            .write(|inner| write::delete(inner, resource, key, &preconditions))?;
        let gone = !state.store.read().contains(resource, key);
        if gone && !resource.returns_deleted {
            return Ok(success(resource, &deleted));
        }
        Ok(deleted.whole(resource))
    }

    fn delete_all(&self, state: &State) -> Result<Bytes, Failure> {
        let (resource, namespace) = self.collection()?;
        let mut options = self.parameters.list(resource)?;
        options.version = Version::Latest;
        let namespace = namespace.map(String::as_str);
        state.store.write(|inner| {
            let page = Page::read(inner, resource, namespace, &options)?;
            for object in page.items() {
                write::delete(inner, resource, &object.key, &Preconditions::default())?;
            }
            Ok(page.write())
        })
    }

    fn collection(&self) -> Result<(&'static Resource, Option<&String>), Failure> {
        match &self.target {
            Target::Collection {
                resource,
                namespace,
            } => Ok((resource, namespace.as_ref())),
            Target::Object { .. } => Err(Failure::method_not_allowed()),
        }
    }

    fn object(&self) -> Result<(&'static Resource, &Key, Part), Failure> {
        match &self.target {
            Target::Object {
                resource,
                key,
                status,
            } => {
                let part = if *status { Part::Status } else { Part::Main };
                Ok((resource, key, part))
            }
            Target::Collection { .. } => Err(Failure::method_not_allowed()),
        }
    }

    fn object_in_body(&self) -> Result<Value, Failure> {
        match media_type(&self.headers) {
            "application/json" | "" => decode(&self.body),
            _ => Err(Failure::unsupported_media_type(&["application/json"])),
        }
    }

    fn preconditions(&self) -> Result<Preconditions, Failure> {
        if self.body.is_empty() {
            return Ok(Preconditions::default());
        }
        let options = self.object_in_body()?;
        let text = |pointer| text_at(&options, pointer).to_owned();
        Ok(Preconditions {
            uid: text("/preconditions/uid"),
            resource_version: text("/preconditions/resourceVersion"),
        })
    }
}

fn authenticate(state: &State, headers: &HeaderMap) -> Result<(), Failure> {
    let Some(token) = &state.options.token else {
        return Ok(());
    };
    let given = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    match given {
        Some(given) if given == token => Ok(()),
        _ => Err(Failure::unauthorized()),
    }
}

/// Whether a client takes plain JSON. Tables and partial objects (`as=`) are not offered, and clients
/// that ask for them or for protobuf name JSON as well.
fn require_json_accepted(headers: &HeaderMap) -> Result<(), Failure> {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    let plain = |entry: &str| {
        let mut parts = entry.split(';').map(str::trim);
        let media_type = parts.next().unwrap_or_default();
        ["application/json", "application/*", "*/*"].contains(&media_type)
            && !parts.any(|parameter| parameter.starts_with("as="))
    };
    match accept {
        Some(accept) if !accept.is_empty() && !accept.split(',').any(plain) => {
            Err(Failure::not_acceptable())
        }
        _ => Ok(()),
    }
}

fn media_type(headers: &HeaderMap) -> &str {
    let text = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    text.split(';').next().unwrap_or_default().trim()
}

fn decode(body: &[u8]) -> Result<Value, Failure> {
    serde_json::from_slice(body).map_err(|error| {
        Failure::bad_request(format!("couldn't get the object from the body: {error}"))
    })
}

fn success(resource: &Resource, object: &Object) -> Bytes {
    let value = object.value();
    let status = json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Success",
        "details": {
            "name": object.key.name,
            "group": resource.group,
            "kind": resource.plural,
            "uid": text_at(&value, "/metadata/uid"),
        },
    });
    Bytes::from(status.to_string())
}

/// Half an answer, then the end of the connection.
fn half(body: &Bytes) -> Body {
    let first = body.slice(..body.len() / 2);
    let cut = stream::once(async { Err(Cut::after_what_was_said().await) });
    Body::from_stream(stream::iter([Ok(first)]).chain(cut))
}

/// No answer at all: a body that fails before its first byte makes hyper close the connection.
fn hang_up() -> Response {
    let mut response = Response::new(Body::from_stream(stream::iter([Err::<Bytes, _>(Cut)])));
    *response.status_mut() = StatusCode::OK;
    response
}
