//! One object as it is stored: serialized once, with what selectors need beside it.

use bytes::{BufMut, Bytes, BytesMut};
use serde_json::{Map, Value};

use super::{resource::Resource, selector::Pairs};

/// Where an object is found in its collection. Lists are in this order.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// Empty for objects of the cluster.
    pub namespace: String,
    /// The object's name.
    pub name: String,
}

/// One version of an object.
#[derive(Debug)]
pub struct Object {
    /// Where it is found.
    pub key: Key,
    /// Its resourceVersion.
    pub revision: u64,
    /// Its labels.
    pub labels: Pairs,
    /// Its selectable fields.
    pub fields: Pairs,
    /// JSON without `kind` and `apiVersion`: that is how items stand in lists of the real server.
    body: Bytes,
}

// === impl Key ===

impl Key {
    /// A key; the namespace is empty for objects of the cluster.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }
}

// === impl Object ===

impl Object {
    /// Serializes an object, which is complete apart from its resourceVersion.
    pub fn new(resource: &Resource, key: Key, revision: u64, mut value: Value) -> Self {
        strip_kind(&mut value);
        if let Some(metadata) = metadata_mut(&mut value) {
            metadata.insert("resourceVersion".into(), revision.to_string().into());
        }
        Self {
            labels: labels_of(&value),
            fields: fields_of(resource, &key, &value),
            body: Bytes::from(value.to_string()),
            key,
            revision,
        }
    }

    /// The object as an item of a list.
    pub fn item(&self) -> &Bytes {
        &self.body
    }

    /// The object by itself, with `kind` and `apiVersion`.
    pub fn whole(&self, resource: &Resource) -> Bytes {
        let mut text = BytesMut::with_capacity(self.body.len() + 64);
        self.write_whole(resource, &mut text);
        text.freeze()
    }

    /// Appends the object by itself, with `kind` and `apiVersion`.
    pub fn write_whole(&self, resource: &Resource, text: &mut BytesMut) {
        let head = format!(
            r#"{{"kind":"{}","apiVersion":"{}","#,
            resource.kind,
            resource.api_version()
        );
        text.put_slice(head.as_bytes());
        // An object has metadata at least, so that what follows the brace is never empty.
        text.put_slice(self.body.get(1..).unwrap_or_default());
    }

    /// The object as a value, without `kind` and `apiVersion`.
    pub fn value(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// The same object under another resourceVersion, as it is told in a deletion.
    pub fn at_revision(&self, resource: &Resource, revision: u64) -> Self {
        Self::new(resource, self.key.clone(), revision, self.value())
    }
}

/// An object's metadata, made when it is missing or is no object. There is none in what is no object.
pub fn metadata_mut(value: &mut Value) -> Option<&mut Map<String, Value>> {
    let metadata = value
        .as_object_mut()?
        .entry("metadata")
        .or_insert(Value::Null);
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut()
}

/// Takes `kind` and `apiVersion` away: objects are stored without.
pub fn strip_kind(value: &mut Value) {
    if let Some(map) = value.as_object_mut() {
        map.shift_remove("kind");
        map.shift_remove("apiVersion");
    }
}

/// A text at a path like `/metadata/name`; empty when there is none.
pub fn text_at<'v>(value: &'v Value, pointer: &str) -> &'v str {
    value
        .pointer(pointer)
        .and_then(Value::as_str)
        .unwrap_or_default()
}

fn labels_of(value: &Value) -> Pairs {
    let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
    labels
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

fn fields_of(resource: &Resource, key: &Key, value: &Value) -> Pairs {
    let general = [
        ("metadata.name".to_owned(), key.name.clone()),
        ("metadata.namespace".to_owned(), key.namespace.clone()),
    ];
    let own = resource.fields.iter().filter_map(|field| {
        let text = match value.pointer(&format!("/{}", field.replace('.', "/")))? {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        Some(((*field).to_owned(), text))
    });
    general.into_iter().chain(own).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn items_have_no_kind_and_whole_objects_have() {
        let services = Resource::by_plural("", "v1", "services").unwrap();
        let sent = json!({
            "kind": "Service",
            "apiVersion": "v1",
            "metadata": {"name": "web", "labels": {"app": "web"}},
            "spec": {"clusterIP": "10.96.0.7"},
        });
        let object = Object::new(services, Key::new("default", "web"), 7, sent.clone());
        let item: Value = serde_json::from_slice(object.item()).unwrap();
        assert_eq!(item["metadata"]["resourceVersion"], "7");
        assert_eq!(item.get("kind"), None);
        let mut whole: Value = serde_json::from_slice(&object.whole(services)).unwrap();
        whole["metadata"]
            .as_object_mut()
            .unwrap()
            .remove("resourceVersion");
        assert_eq!(whole, sent);
        assert_eq!(object.labels["app"], "web");
        assert_eq!(object.fields["spec.clusterIP"], "10.96.0.7");
        assert_eq!(object.fields["metadata.namespace"], "default");
    }
}
