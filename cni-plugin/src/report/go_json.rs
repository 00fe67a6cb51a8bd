//! JSON as Go's encoder prints it: some consumers compare texts.

use serde::Serialize;
use serde_json::{Serializer, Value, ser::PrettyFormatter};

/// Indented by four spaces, without a newline at the end (`json.MarshalIndent`).
pub fn pretty(value: &Value) -> String {
    let mut bytes = Vec::new();
    let formatter = PrettyFormatter::with_indent(b"    ");
    let written = value.serialize(&mut Serializer::with_formatter(&mut bytes, formatter));
    // Only a map with keys that are no texts can fail, which a Value can't have.
    debug_assert!(written.is_ok());
    escape(&String::from_utf8_lossy(&bytes))
}

/// On one line, with a newline at the end (`json.Encoder`).
pub fn line(value: &Value) -> String {
    format!("{}\n", escape(&value.to_string()))
}

/// Go escapes what could mean something in HTML or JavaScript. All of these occur in strings only.
fn escape(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                escaped.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn indented_by_four_with_gos_escapes() {
        assert_eq!(
            pretty(&json!({"a": [1, "<&>"], "b": {}})),
            "{\n    \"a\": [\n        1,\n        \"\\u003c\\u0026\\u003e\"\n    ],\n    \"b\": {}\n}"
        );
        assert_eq!(line(&json!({"a": 1})), "{\"a\":1}\n");
    }
}
