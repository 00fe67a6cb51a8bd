//! What writing an object means: identity, conflicts, what a subresource may change, finalizers.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::{
    defaults,
    failure::Failure,
    object::{Key, Object, metadata_mut, strip_kind, text_at},
    patch::Patch,
    resource::{Created, Resource},
    store::Inner,
};

/// Which part of an object a write reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All but the status, where the status is a subresource.
    Main,
    /// The status and the metadata.
    Status,
}

/// What must hold for a deletion: the `preconditions` of `DeleteOptions`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Preconditions {
    /// The object's uid, or empty.
    pub uid: String,
    /// The object's resourceVersion, or empty.
    pub resource_version: String,
}

/// Creates an object.
///
/// # Errors
/// 400 and 422 when the object does not fit the path, 404 without its namespace, 409 when it exists.
pub fn create(
    inner: &mut Inner,
    resource: &Resource,
    namespace: &str,
    mut value: Value,
) -> Result<Arc<Object>, Failure> {
    let key = identify(resource, namespace, &mut value)?;
    if !text_at(&value, "/metadata/resourceVersion").is_empty() {
        return Err(Failure::bad_request(
            "resourceVersion should not be set on objects to be created",
        ));
    }
    require_namespace(inner, namespace)?;
    if inner.contains(resource, &key) {
        return Err(Failure::already_exists(resource, &key.name));
    }
    if let (Created::WithoutStatus, Some(map)) = (resource.created, value.as_object_mut()) {
        map.shift_remove("status");
    }
    defaults::fill_in(resource, &mut value);
    stamp_new(resource, &key, &mut value);
    Ok(inner.put(resource, key, value))
}

/// Replaces an object.
///
/// # Errors
/// 400 and 422 when the object does not fit the path, 404 without the object, 409 when it was changed.
pub fn update(
    inner: &mut Inner,
    resource: &Resource,
    key: &Key,
    part: Part,
    mut value: Value,
) -> Result<Arc<Object>, Failure> {
    let named = identify(resource, &key.namespace, &mut value)?;
    if named != *key {
        return Err(Failure::bad_request(format!(
            "the name of the object ({}) does not match the name on the URL ({})",
            named.name, key.name
        )));
    }
    let old = existing(inner, resource, key)?;
    check_unchanged(resource, &old, &value)?;
    replace(inner, resource, &old, part, value)
}

/// Patches an object.
///
/// # Errors
/// 404 without the object, 409 when the patch names another resourceVersion, 422 when it can't be applied.
pub fn patch(
    inner: &mut Inner,
    resource: &Resource,
    key: &Key,
    part: Part,
    patch: &Patch,
) -> Result<Arc<Object>, Failure> {
    let old = existing(inner, resource, key)?;
    let mut value = serde_json::from_slice(&old.whole(resource)).unwrap_or_default();
    patch.apply(resource, &mut value)?;
    if Key::new(
        text_at(&value, "/metadata/namespace"),
        text_at(&value, "/metadata/name"),
    ) != *key
    {
        return Err(Failure::invalid(
            resource.kind,
            &key.name,
            "metadata.name: Invalid value: field is immutable",
        ));
    }
    check_unchanged(resource, &old, &value)?;
    replace(inner, resource, &old, part, value)
}

/// Deletes an object, or marks it when it has finalizers.
///
/// # Errors
/// 404 without the object, 409 when a precondition does not hold.
pub fn delete(
    inner: &mut Inner,
    resource: &Resource,
    key: &Key,
    preconditions: &Preconditions,
) -> Result<Arc<Object>, Failure> {
    let old = existing(inner, resource, key)?;
    let mut value = old.value();
    for (asked, pointer, what) in [
        (&preconditions.uid, "/metadata/uid", "UID"),
        (
            &preconditions.resource_version,
            "/metadata/resourceVersion",
            "ResourceVersion",
        ),
    ] {
        let found = text_at(&value, pointer);
        if !asked.is_empty() && asked != found {
            let why = format!(
                "Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}"
            );
            return Err(Failure::conflict(resource, &key.name, &why));
        }
    }
    if !has_finalizers(&value) {
        return Ok(inner.remove(resource, key).unwrap_or(old));
    }
    if !value["metadata"]["deletionTimestamp"].is_null() {
        return Ok(old);
    }
    if let Some(metadata) = metadata_mut(&mut value) {
        metadata.insert("deletionTimestamp".into(), now().into());
        metadata.insert("deletionGracePeriodSeconds".into(), 0.into());
    }
    Ok(inner.put(resource, key.clone(), value))
}

/// Creates or replaces an object with its status, whatever its resourceVersion: for tests, not for clients.
///
/// Makes the namespace when it is missing. What is unchanged is not written.
///
/// # Errors
/// When the object has no name, or is not one of the kinds that are served.
pub fn apply(inner: &mut Inner, mut value: Value) -> Result<Arc<Object>, Failure> {
    let (api_version, kind) = (text_at(&value, "/apiVersion"), text_at(&value, "/kind"));
    let resource = Resource::by_kind(api_version, kind).ok_or_else(|| {
        Failure::bad_request(format!(
            "no kind {kind:?} of version {api_version:?} is served"
        ))
    })?;
    let namespace = match (resource.namespaced, text_at(&value, "/metadata/namespace")) {
        (true, "") => "default".to_owned(),
        (_, given) => given.to_owned(),
    };
    let key = identify(resource, &namespace, &mut value)?;
    if require_namespace(inner, &namespace).is_err() {
        apply(inner, namespace_object(&namespace))?;
    }
    defaults::fill_in(resource, &mut value);
    match inner.get(resource, &key).cloned() {
        Some(old) => store_changed(inner, resource, &old, value),
        None => {
            stamp_new(resource, &key, &mut value);
            Ok(inner.put(resource, key, value))
        }
    }
}

/// A namespace, ready to be applied.
pub fn namespace_object(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "labels": {"kubernetes.io/metadata.name": name}},
    })
}

/// Checks an object against the path, and makes its name when it has only `generateName`.
fn identify(resource: &Resource, namespace: &str, value: &mut Value) -> Result<Key, Failure> {
    for (field, expected) in [
        ("kind", resource.kind),
        ("apiVersion", &resource.api_version()),
    ] {
        let given = value.get(field).and_then(Value::as_str).unwrap_or(expected);
        if given != expected {
            return Err(Failure::bad_request(format!(
                "the {field} in the data ({given}) does not match the expected {field} ({expected})"
            )));
        }
    }
    let Some(metadata) = metadata_mut(value) else {
        return Err(Failure::bad_request("the object is not a JSON object"));
    };
    let given = metadata.get("namespace").and_then(Value::as_str);
    if given.is_some_and(|given| !given.is_empty() && given != namespace) {
        return Err(Failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    if !namespace.is_empty() {
        metadata.insert("namespace".into(), namespace.into());
    }
    generate_name(metadata);
    match metadata.get("name").and_then(Value::as_str) {
        Some(name) if !name.is_empty() => Ok(Key::new(namespace, name)),
        _ => {
            let why = "metadata.name: Required value: name or generateName is required";
            Err(Failure::invalid(resource.kind, "", why))
        }
    }
}

fn generate_name(metadata: &mut Map<String, Value>) {
    let text = |key: &str| {
        metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    if text("name").is_empty() && !text("generateName").is_empty() {
        let chance = uuid::Uuid::new_v4().simple().to_string();
        let name = format!(
            "{}{}",
            text("generateName"),
            chance.get(..5).unwrap_or_default()
        );
        metadata.insert("name".into(), name.into());
    }
}

fn require_namespace(inner: &Inner, namespace: &str) -> Result<(), Failure> {
    match Resource::by_plural("", "v1", "namespaces") {
        Some(namespaces)
            if !namespace.is_empty() && !inner.contains(namespaces, &Key::new("", namespace)) =>
        {
            Err(Failure::not_found(namespaces, namespace))
        }
        _ => Ok(()),
    }
}

fn existing(inner: &Inner, resource: &Resource, key: &Key) -> Result<Arc<Object>, Failure> {
    inner
        .get(resource, key)
        .cloned()
        .ok_or_else(|| Failure::not_found(resource, &key.name))
}

/// The optimistic lock: whoever names a resourceVersion or a uid must name the present one.
fn check_unchanged(resource: &Resource, old: &Object, value: &Value) -> Result<(), Failure> {
    let named = text_at(value, "/metadata/resourceVersion");
    if !["", "0"].contains(&named) && named != old.revision.to_string() {
        let why = "the object has been modified; please apply your changes to the latest version \
                   and try again";
        return Err(Failure::conflict(resource, &old.key.name, why));
    }
    let (uid, found) = (text_at(value, "/metadata/uid"), old.value());
    let found = text_at(&found, "/metadata/uid");
    if !uid.is_empty() && uid != found {
        let why =
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}");
        return Err(Failure::conflict(resource, &old.key.name, &why));
    }
    Ok(())
}

fn replace(
    inner: &mut Inner,
    resource: &Resource,
    old: &Arc<Object>,
    part: Part,
    mut value: Value,
) -> Result<Arc<Object>, Failure> {
    let before = old.value();
    match part {
        Part::Main if resource.status => keep(&before, &mut value, |field| field == "status"),
        Part::Main => {}
        Part::Status => keep(&before, &mut value, |field| {
            !["status", "metadata"].contains(&field)
        }),
    }
    defaults::fill_in(resource, &mut value);
    store_changed(inner, resource, old, value)
}

/// Writes an object if that changes anything: the real server sends no event for an update without effect.
fn store_changed(
    inner: &mut Inner,
    resource: &Resource,
    old: &Arc<Object>,
    mut value: Value,
) -> Result<Arc<Object>, Failure> {
    let before = old.value();
    strip_kind(&mut value);
    inherit(&before, &mut value);
    if before == value {
        return Ok(Arc::clone(old));
    }
    if resource.generation && without_metadata(&before) != without_metadata(&value) {
        let generation = before["metadata"]["generation"].as_u64().unwrap_or(0) + 1;
        value["metadata"]["generation"] = generation.into();
    }
    if !value["metadata"]["deletionTimestamp"].is_null() && !has_finalizers(&value) {
        return Ok(inner
            .remove(resource, &old.key)
            .unwrap_or_else(|| Arc::clone(old)));
    }
    Ok(inner.put(resource, old.key.clone(), value))
}

/// Takes the fields that a write must not touch from the object as it was.
fn keep(before: &Value, value: &mut Value, kept: impl Fn(&str) -> bool) {
    let (Some(before), Some(value)) = (before.as_object(), value.as_object_mut()) else {
        return;
    };
    value.retain(|field, _| !kept(field) || ["kind", "apiVersion"].contains(&field.as_str()));
    for (field, content) in before.iter().filter(|(field, _)| kept(field)) {
        value.insert(field.clone(), content.clone());
    }
}

/// Takes what only the server writes from the object as it was.
fn inherit(before: &Value, value: &mut Value) {
    let Some(metadata) = metadata_mut(value) else {
        return;
    };
    for field in [
        "uid",
        "resourceVersion",
        "creationTimestamp",
        "generation",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    ] {
        match &before["metadata"][field] {
            Value::Null => metadata.shift_remove(field),
            content => metadata.insert(field.into(), content.clone()),
        };
    }
}

fn stamp_new(resource: &Resource, key: &Key, value: &mut Value) {
    let Some(metadata) = metadata_mut(value) else {
        return;
    };
    metadata.insert("name".into(), key.name.clone().into());
    metadata.insert("uid".into(), uuid::Uuid::new_v4().to_string().into());
    metadata.insert("creationTimestamp".into(), now().into());
    for field in [
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
    ] {
        metadata.shift_remove(field);
    }
    if resource.generation {
        metadata.insert("generation".into(), 1.into());
    }
}

fn without_metadata(value: &Value) -> Value {
    let mut value = value.clone();
    value["metadata"] = Value::Null;
    value
}

fn has_finalizers(value: &Value) -> bool {
    value["metadata"]["finalizers"]
        .as_array()
        .is_some_and(|finalizers| !finalizers.is_empty())
}

/// The time as objects carry it: RFC 3339 in whole seconds.
pub fn now() -> String {
    jiff::Timestamp::now()
        .strftime("%Y-%m-%dT%H:%M:%SZ")
        .to_string()
}
