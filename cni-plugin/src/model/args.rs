//! `CNI_ARGS`: extra arguments from the person who called the runtime, `KEY=VALUE` joined by `;`.

use super::{Code, Error};

/// The arguments that the plugin knows. Kubernetes passes more (`K8S_POD_NAME`, ...) together with
/// `IgnoreUnknown=1`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Args<'a> {
    known: Vec<(&'a str, &'a str)>,
}

// === impl Args ===

impl<'a> Args<'a> {
    /// Parses the value of `CNI_ARGS` for a plugin that knows the keys `known`.
    ///
    /// # Errors
    /// In the words of libcni, if a pair has not exactly one `=`, or a key is not known and nobody said
    /// that unknown keys are to be ignored.
    pub fn parse(text: &'a str, known: &[&str]) -> Result<Self, Error> {
        let mut args = Self::default();
        let mut unknown = Vec::new();
        let mut ignore_unknown = false;
        for pair in text.split(';').filter(|_| !text.is_empty()) {
            let (key, value) = split(pair)?;
            if key == "IgnoreUnknown" {
                ignore_unknown = flag(pair, value)?;
            } else if known.contains(&key) {
                args.known.push((key, value));
            } else {
                unknown.push(format!("{pair:?}"));
            }
        }
        if unknown.is_empty() || ignore_unknown {
            Ok(args)
        } else {
            Err(invalid(format!(
                "ARGS: unknown args [{}]",
                unknown.join(" ")
            )))
        }
    }

    /// The value of a key; the last one if it was given more than once.
    pub fn get(&self, key: &str) -> Option<&'a str> {
        let mut last_first = self.known.iter().rev();
        last_first
            .find(|(known, _)| *known == key)
            .map(|(_, value)| *value)
            .filter(|value| !value.is_empty())
    }
}

fn split(pair: &str) -> Result<(&str, &str), Error> {
    pair.split_once('=')
        .filter(|(_, value)| !value.contains('='))
        .ok_or_else(|| invalid(format!("ARGS: invalid pair {pair:?}")))
}

fn flag(pair: &str, value: &str) -> Result<bool, Error> {
    match value.to_lowercase().as_str() {
        "1" | "true" => Ok(true),
        "0" | "false" => Ok(false),
        other => Err(invalid(format!(
            "ARGS: error parsing value of pair {pair:?}: boolean unmarshal error: invalid input {other}"
        ))),
    }
}

fn invalid(message: String) -> Error {
    Error::new(Code::InvalidEnvironment, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubernetes_arguments_are_ignored_when_it_says_so() {
        let text = "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0;IP=10.1.2.3";
        let args = Args::parse(text, &["IP"]).unwrap();
        assert_eq!(args.get("IP"), Some("10.1.2.3"));
        assert_eq!(args.get("MAC"), None);
        assert_eq!(Args::parse("", &[]), Ok(Args::default()));
    }

    #[test]
    fn bad_arguments_are_refused_in_the_words_of_libcni() {
        for (text, message) in [
            ("FOO=1", r#"ARGS: unknown args ["FOO=1"]"#),
            (
                "A=1;B=2;IgnoreUnknown=0",
                r#"ARGS: unknown args ["A=1" "B=2"]"#,
            ),
            ("x", r#"ARGS: invalid pair "x""#),
            ("IP=1=2", r#"ARGS: invalid pair "IP=1=2""#),
            ("IP=1;", r#"ARGS: invalid pair """#),
            (
                "IgnoreUnknown=maybe",
                r#"ARGS: error parsing value of pair "IgnoreUnknown=maybe": boolean unmarshal error: invalid input maybe"#,
            ),
        ] {
            let error = Args::parse(text, &["IP"]).unwrap_err();
            assert_eq!(error.message, message, "{text}");
            assert_eq!(error.code, Code::InvalidEnvironment);
        }
    }
}
