//! Changes of a configuration.

use proptest::prelude::*;
use serde_json::Value;

use super::words::value;

/// One change of a JSON value, at a place that is counted off.
#[derive(Clone, Debug)]
pub enum Mutation {
    Replace(usize, Value),
    Remove(usize),
    Repeat(usize),
}

// === impl Mutation ===

impl Mutation {
    pub fn apply(&self, root: &mut Value) {
        let (Self::Replace(place, _) | Self::Remove(place) | Self::Repeat(place)) = self;
        let places = pointers(root);
        let pointer = &places[place % places.len()];
        match self {
            Self::Replace(_, value) => {
                if let Some(found) = root.pointer_mut(pointer) {
                    *found = value.clone();
                }
            }
            Self::Repeat(_) => {
                if let Some(Value::Array(array)) = root.pointer_mut(pointer) {
                    array.extend(array.clone());
                }
            }
            Self::Remove(_) => {
                let Some((parent, key)) = pointer.rsplit_once('/') else {
                    return;
                };
                if let Some(Value::Object(parent)) = root.pointer_mut(parent) {
                    parent.remove(key);
                }
            }
        }
    }
}

pub fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        4 => (any::<usize>(), value()).prop_map(|(place, value)| Mutation::Replace(place, value)),
        1 => any::<usize>().prop_map(Mutation::Remove),
        1 => any::<usize>().prop_map(Mutation::Repeat),
    ]
}

/// Small arrays and objects of some values, with some keys, and these values alone.
pub fn nested(
    leaf: impl Strategy<Value = Value> + 'static,
    key: fn() -> BoxedStrategy<String>,
) -> impl Strategy<Value = Value> {
    leaf.prop_recursive(2, 8, 3, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            prop::collection::vec((key(), inner), 0..3)
                .prop_map(|entries| Value::Object(entries.into_iter().collect())),
        ]
    })
}

/// The ways to all values below a value, and to itself.
fn pointers(value: &Value) -> Vec<String> {
    fn walk(value: &Value, here: &str, found: &mut Vec<String>) {
        found.push(here.to_owned());
        match value {
            Value::Object(map) => {
                for (key, value) in map {
                    let key = key.replace('~', "~0").replace('/', "~1");
                    walk(value, &format!("{here}/{key}"), found);
                }
            }
            Value::Array(array) => {
                for (index, value) in array.iter().enumerate() {
                    walk(value, &format!("{here}/{index}"), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(value, "", &mut found);
    found
}
