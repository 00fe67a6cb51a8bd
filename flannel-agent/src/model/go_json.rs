//! JSON objects as Go's `encoding/json` reads them into a struct: keys match in any case, the last of
//! several wins, and `null` is the same as nothing.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Parses an object into a type whose field names are all in lower case.
pub(super) fn parse<T: DeserializeOwned>(text: &[u8]) -> serde_json::Result<T> {
    serde_json::from_value(fold(serde_json::from_slice(text)?))
}

/// Puts the keys of all objects in lower case.
fn fold(value: Value) -> Value {
    match value {
        Value::Object(members) => members
            .into_iter()
            .filter(|(_, value)| !value.is_null())
            .map(|(key, value)| (key.to_ascii_lowercase(), fold(value)))
            .collect(),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, serde::Deserialize)]
    struct Example {
        outer: Option<u8>,
        object: Option<Box<Example>>,
    }

    #[test]
    fn folds_keys_at_every_depth_and_takes_the_last() {
        let text =
            br#"{"OUTER":1,"Outer":2,"outer":null,"Object":{"oUter":3},"unknown":[{"A":1}]}"#;
        let example: Example = parse(text).unwrap();
        assert_eq!(example.outer, Some(2));
        assert_eq!(example.object.unwrap().outer, Some(3));
    }

    #[test]
    fn refuses_what_is_not_one_object() {
        for text in [&b""[..], b"[]", b"{} {}", b"{", b"\"x\"", b"{\"outer\":-1}"] {
            assert!(parse::<Example>(text).is_err(), "{text:?}");
        }
    }
}
