//! Strategic merge patch: JSON merge patch, but lists are merged as the types of the API say.
//!
//! The directives are those of Kubernetes' `strategic-merge-patch.md`: `$patch`, `$retainKeys`,
//! `$deleteFromPrimitiveList`. The order of `$setElementOrder` means nothing to readers and is ignored.

use serde_json::{Map, Value};

use super::{failure::Failure, resource::Resource};

/// How a list is merged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Strategy {
    /// The patch's list takes its place.
    Replace,
    /// Objects with the same value of this field are the same item.
    ByKey(&'static str),
    /// A set of plain values.
    Union,
}

/// The `patchStrategy` and `patchMergeKey` of the lists of the served kinds (`types.go` of the API).
const LISTS: &[(&str, &str, Strategy)] = &[
    ("", "metadata.finalizers", Strategy::Union),
    ("", "metadata.ownerReferences", Strategy::ByKey("uid")),
    ("Namespace", "status.conditions", Strategy::ByKey("type")),
    ("Node", "spec.podCIDRs", Strategy::Union),
    ("Node", "status.addresses", Strategy::ByKey("type")),
    ("Node", "status.conditions", Strategy::ByKey("type")),
    ("Pod", "spec.containers", Strategy::ByKey("name")),
    ("Pod", "spec.volumes", Strategy::ByKey("name")),
    ("Pod", "status.conditions", Strategy::ByKey("type")),
    ("Pod", "status.podIPs", Strategy::ByKey("ip")),
    ("Service", "spec.ports", Strategy::ByKey("port")),
    ("Service", "status.conditions", Strategy::ByKey("type")),
    ("ServiceCIDR", "status.conditions", Strategy::ByKey("type")),
];

/// The directive that says what becomes of an object.
const DIRECTIVE: &str = "$patch";

/// Changes an object by a patch.
///
/// # Errors
/// 400 when an item of a list lacks the list's merge key, or a directive is unknown.
pub fn merge(resource: &Resource, object: &mut Value, patch: &Value) -> Result<(), Failure> {
    match patch {
        Value::Object(patch) => merge_object(resource.kind, "", object, patch),
        _ => Err(Failure::bad_request("the patch is not an object")),
    }
}

fn strategy(kind: &str, path: &str) -> Strategy {
    LISTS
        .iter()
        .find(|(of, at, _)| (of.is_empty() || *of == kind) && *at == path)
        .map_or(Strategy::Replace, |(_, _, strategy)| *strategy)
}

fn merge_object(
    kind: &str,
    path: &str,
    target: &mut Value,
    patch: &Map<String, Value>,
) -> Result<(), Failure> {
    match directive(patch)? {
        Directive::Replace => {
            let content = patch.iter().filter(|(field, _)| !field.starts_with('$'));
            *target = content.map(|(f, v)| (f.clone(), v.clone())).collect();
            return Ok(());
        }
        Directive::Delete => {
            *target = Value::Null;
            return Ok(());
        }
        Directive::Merge => {}
    }
    let mut merged = match target.take() {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    let result = patch
        .iter()
        .try_for_each(|(field, content)| merge_field(kind, path, &mut merged, field, content));
    *target = merged.into();
    result
}

fn merge_field(
    kind: &str,
    path: &str,
    target: &mut Map<String, Value>,
    field: &str,
    content: &Value,
) -> Result<(), Failure> {
    if let Some(list) = field.strip_prefix("$deleteFromPrimitiveList/") {
        remove_values(target.get_mut(list), content);
        return Ok(());
    }
    if field == "$retainKeys" {
        let kept = content.as_array().cloned().unwrap_or_default();
        target.retain(|field, _| kept.iter().any(|kept| kept == field));
        return Ok(());
    }
    if field.starts_with('$') {
        return Ok(());
    }
    let below = match path {
        "" => field.to_owned(),
        path => format!("{path}.{field}"),
    };
    match content {
        Value::Null => {
            target.shift_remove(field);
        }
        Value::Object(content) => {
            let slot = target.entry(field).or_insert(Value::Null);
            merge_object(kind, &below, slot, content)?;
            if slot.is_null() {
                target.shift_remove(field);
            }
        }
        Value::Array(items) => {
            let slot = target.entry(field).or_insert(Value::Null);
            merge_list(kind, &below, slot, items)?;
        }
        plain => {
            target.insert(field.to_owned(), plain.clone());
        }
    }
    Ok(())
}

fn merge_list(kind: &str, path: &str, target: &mut Value, patch: &[Value]) -> Result<(), Failure> {
    let mut items = match target.take() {
        Value::Array(items) => items,
        _ => Vec::new(),
    };
    match strategy(kind, path) {
        Strategy::Replace => items = patch.to_vec(),
        Strategy::Union => {
            for item in patch {
                if !items.contains(item) {
                    items.push(item.clone());
                }
            }
        }
        Strategy::ByKey(key) => merge_by_key(kind, path, key, &mut items, patch)?,
    }
    *target = items.into();
    Ok(())
}

fn merge_by_key(
    kind: &str,
    path: &str,
    key: &str,
    items: &mut Vec<Value>,
    patch: &[Value],
) -> Result<(), Failure> {
    let replaces = |item: &Value| item[DIRECTIVE] == "replace" && item.get(key).is_none();
    if patch.iter().any(replaces) {
        *items = patch
            .iter()
            .filter(|item| !replaces(item))
            .cloned()
            .collect();
        return Ok(());
    }
    for item in patch {
        let (Some(content), Some(id)) = (item.as_object(), item.get(key)) else {
            return Err(Failure::bad_request(format!(
                "map: {item} does not contain declared merge key: {key}"
            )));
        };
        match items.iter().position(|old| old.get(key) == Some(id)) {
            Some(at) if directive(content)? == Directive::Delete => {
                items.remove(at);
            }
            Some(at) => merge_object(kind, path, &mut items[at], content)?,
            None if directive(content)? == Directive::Delete => {}
            None => {
                let mut new = Value::Null;
                merge_object(kind, path, &mut new, content)?;
                items.push(new);
            }
        }
    }
    Ok(())
}

fn remove_values(list: Option<&mut Value>, values: &Value) {
    if let (Some(Value::Array(list)), Value::Array(values)) = (list, values) {
        list.retain(|item| !values.contains(item));
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Directive {
    Merge,
    Replace,
    Delete,
}

fn directive(patch: &Map<String, Value>) -> Result<Directive, Failure> {
    match patch
        .get(DIRECTIVE)
        .map(|value| value.as_str().unwrap_or_default())
    {
        None | Some("merge") => Ok(Directive::Merge),
        Some("replace") => Ok(Directive::Replace),
        Some("delete") => Ok(Directive::Delete),
        Some(other) => Err(Failure::bad_request(format!("Unknown patch type: {other}"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn merged(plural: &str, mut object: Value, patch: &Value) -> Value {
        let resource = Resource::by_plural("", "v1", plural).unwrap();
        merge(resource, &mut object, patch).unwrap();
        object
    }

    #[test]
    fn conditions_are_merged_by_type() {
        let node = json!({"status": {"conditions": [
            {"type": "Ready", "status": "True", "reason": "KubeletReady"},
            {"type": "NetworkUnavailable", "status": "True"},
        ]}});
        let patch = json!({"status": {"conditions": [
            {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
            {"type": "New", "status": "True"},
        ]}});
        assert_eq!(
            merged("nodes", node, &patch),
            json!({"status": {"conditions": [
                {"type": "Ready", "status": "True", "reason": "KubeletReady"},
                {"type": "NetworkUnavailable", "status": "False", "reason": "FlannelIsUp"},
                {"type": "New", "status": "True"},
            ]}})
        );
    }

    #[test]
    fn maps_lists_and_sets() {
        for (object, patch, expected) in [
            (
                json!({"metadata": {"annotations": {"a": "1", "b": "2"}}}),
                json!({"metadata": {"annotations": {"a": "3", "b": null, "c": "4"}}}),
                json!({"metadata": {"annotations": {"a": "3", "c": "4"}}}),
            ),
            (
                json!({"spec": {"podCIDRs": ["10.0.0.0/24"]}}),
                json!({"spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}}),
                json!({"spec": {"podCIDRs": ["10.0.0.0/24", "fd00::/64"]}}),
            ),
            (
                json!({"spec": {"taints": [{"key": "a"}]}}),
                json!({"spec": {"taints": [{"key": "b"}]}}),
                json!({"spec": {"taints": [{"key": "b"}]}}),
            ),
            (
                json!({"status": {"addresses": [{"type": "InternalIP", "address": "1.1.1.1"}, {"type": "Hostname", "address": "a"}]}}),
                json!({"status": {"addresses": [{"type": "Hostname", "$patch": "delete"}], "$setElementOrder/addresses": []}}),
                json!({"status": {"addresses": [{"type": "InternalIP", "address": "1.1.1.1"}]}}),
            ),
            (
                json!({"status": {"addresses": [{"type": "InternalIP", "address": "1.1.1.1"}]}}),
                json!({"status": {"addresses": [{"$patch": "replace"}, {"type": "Hostname", "address": "a"}]}}),
                json!({"status": {"addresses": [{"type": "Hostname", "address": "a"}]}}),
            ),
            (
                json!({"metadata": {"finalizers": ["a", "b"]}}),
                json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}),
                json!({"metadata": {"finalizers": ["b"]}}),
            ),
            (
                json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
                json!({"metadata": {"labels": {"$patch": "replace", "c": "3"}}}),
                json!({"metadata": {"labels": {"c": "3"}}}),
            ),
            (
                json!({"spec": {"a": 1, "b": 2}}),
                json!({"spec": {"$retainKeys": ["b"], "b": 3}}),
                json!({"spec": {"b": 3}}),
            ),
        ] {
            assert_eq!(
                merged("nodes", object.clone(), &patch),
                expected,
                "{object} {patch}"
            );
        }
    }

    #[test]
    fn an_item_without_its_key_is_refused() {
        let nodes = Resource::by_plural("", "v1", "nodes").unwrap();
        let patch = json!({"status": {"conditions": [{"status": "True"}]}});
        let failure = merge(nodes, &mut json!({}), &patch).unwrap_err();
        assert_eq!(failure.code, 400);
    }
}
