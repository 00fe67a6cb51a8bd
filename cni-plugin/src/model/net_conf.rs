//! The network configuration of one plugin, as it comes on stdin.

use serde::{Deserialize, Deserializer, de::DeserializeOwned};
use serde_json::{Map, Value};

use super::{AddResult, Code, Error, SpecVersion};

/// Keys that are not configuration, but come with each call.
const PER_CALL: [&str; 3] = [
    "prevResult",
    "cni.dev/valid-attachments",
    "cni.dev/attachments",
];

/// A configuration: its name and version checked, the rest as JSON that each plugin takes its own view of.
/// `prevResult` and what else is not known stays in it.
#[derive(Clone, Debug, PartialEq)]
pub struct NetConf {
    name: String,
    version: String,
    /// Always an object.
    json: Value,
}

#[derive(Deserialize)]
struct Head {
    #[serde(default, deserialize_with = "null_is_default")]
    name: String,
}

#[derive(Deserialize)]
struct Version {
    #[serde(default, rename = "cniVersion", deserialize_with = "null_is_default")]
    version: String,
}

// === impl NetConf ===

impl NetConf {
    /// Parses what came on stdin, with libcni's checks, codes and texts.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        let unmarshall = |text: String| {
            Error::new(
                Code::Decode,
                format!("error unmarshall network config: {text}"),
            )
        };
        let json: Value = serde_json::from_slice(bytes).map_err(|error| {
            unmarshall(if error.is_eof() {
                "unexpected end of JSON input".into()
            } else {
                error.to_string()
            })
        })?;
        let Head { name } = view(&json).map_err(unmarshall)?;
        if name.is_empty() {
            return Err(Error::config("missing network name"));
        }
        // The name becomes the name of a directory.
        if !is_valid_name(&name) {
            let error = Error::config("invalid characters found in network name");
            return Err(error.with_details(name));
        }
        let Version { version } = view(&json).map_err(|text| {
            Error::new(
                Code::Decode,
                format!("decoding version from network config: {text}"),
            )
        })?;
        Ok(Self {
            name,
            version,
            json,
        })
    }

    /// The same network with another plugin's configuration, as for a delegate. What the runtime says of
    /// this very call goes along: `prevResult` and the attachments in use.
    pub fn for_delegate(&self, mut object: Map<String, Value>) -> Self {
        for key in PER_CALL {
            match self.get(key) {
                Some(value) => object.insert(key.into(), value.clone()),
                None => object.remove(key),
            };
        }
        Self {
            json: Value::Object(object),
            ..self.clone()
        }
    }

    /// What the plugins before this one made; `None` for the first one of a chain.
    pub fn prev_result(&self) -> Result<Option<AddResult>, Error> {
        let version = SpecVersion::of_conf(&self.version)?;
        self.get("prevResult")
            .map(|json| AddResult::parse(json, version, "prevResult"))
            .transpose()
    }

    /// What the plugins up to this one made, for a CHECK.
    ///
    /// # Errors
    /// If it is not there.
    pub fn required_prev_result(&self) -> Result<AddResult, Error> {
        self.prev_result()?
            .ok_or_else(|| Error::config("Required prevResult missing"))
    }

    /// The configuration as another plugin gets it on stdin.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.json.to_string().into_bytes()
    }

    /// The keys that every plugin reads.
    #[cfg(test)]
    pub fn keys() -> std::collections::BTreeSet<String> {
        let mut keys = reference::keys::<Head>();
        keys.extend(reference::keys::<Version>());
        keys.extend(PER_CALL.map(str::to_owned));
        keys
    }

    /// The network's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `cniVersion`, empty where there is none.
    pub fn version(&self) -> &str {
        &self.version
    }

    /// The value of a key; `None` also where it is `null`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.json.get(key).filter(|value| !value.is_null())
    }

    /// A plugin's view of the configuration.
    ///
    /// # Errors
    /// If a value has the wrong type; the error names its key.
    pub fn view<T: DeserializeOwned>(&self) -> Result<T, Error> {
        view(&self.json)
            .map_err(|text| Error::new(Code::Decode, format!("failed to load netconf: {text}")))
    }
}

/// Whether a text can be a container id or a network name (CNI specification 1.1.0, "Parameters"): it is
/// then also harmless as the name of a file.
pub fn is_valid_name(text: &str) -> bool {
    let first = |c: char| c.is_ascii_alphanumeric();
    let other = |c: char| first(c) || matches!(c, '_' | '.' | '-');
    text.starts_with(first) && text.chars().all(other)
}

/// For serde: `null` is as good as no key at all, as in Go.
pub(super) fn null_is_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Default + Deserialize<'de>,
{
    Option::deserialize(deserializer).map(Option::unwrap_or_default)
}

fn view<T: DeserializeOwned>(json: &Value) -> Result<T, String> {
    serde_path_to_error::deserialize(json).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn name_and_version_are_read() {
        let conf =
            NetConf::parse(br#"{"name": "cbr0", "cniVersion": "1.0.0", "mtu": null}"#).unwrap();
        assert_eq!((conf.name(), conf.version()), ("cbr0", "1.0.0"));
        assert_eq!(conf.get("mtu"), None);
        let conf = NetConf::parse(br#"{"name": "cbr0", "cniVersion": null}"#).unwrap();
        assert_eq!(conf.version(), "");
    }

    #[test]
    fn bad_input_is_refused_with_the_codes_of_libcni() {
        for (input, code, message, details) in [
            (
                "",
                Code::Decode,
                "error unmarshall network config: unexpected end of JSON input",
                "",
            ),
            (
                r#"{"name": 5}"#,
                Code::Decode,
                "error unmarshall network config: name: invalid type: integer `5`, expected a string",
                "",
            ),
            ("{}", Code::InvalidConfig, "missing network name", ""),
            (
                r#"{"name": "../etc"}"#,
                Code::InvalidConfig,
                "invalid characters found in network name",
                "../etc",
            ),
            (
                r#"{"name": "a", "cniVersion": 1}"#,
                Code::Decode,
                "decoding version from network config: cniVersion: invalid type: integer `1`, expected a string",
                "",
            ),
        ] {
            let error = NetConf::parse(input.as_bytes()).unwrap_err();
            assert_eq!((error.code, &*error.message), (code, message), "{input}");
            assert_eq!(error.details, details, "{input}");
        }
    }

    #[test]
    fn names_are_harmless_as_file_names() {
        for good in ["a", "cbr0", "A1_b.c-d"] {
            assert!(is_valid_name(good), "{good}");
        }
        for bad in ["", ".", "..", "-a", "_a", "a/b", "a b", "ä", "a\n"] {
            assert!(!is_valid_name(bad), "{bad:?}");
        }
    }
}
