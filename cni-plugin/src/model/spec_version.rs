//! Versions of the CNI specification.

use super::{Code, Error};

/// A version of the CNI specification that this plugin speaks; the later the greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum SpecVersion {
    /// 0.1.0, also meant by a configuration without a version.
    V0_1_0,
    /// 0.2.0
    V0_2_0,
    /// 0.3.0
    V0_3_0,
    /// 0.3.1
    V0_3_1,
    /// 0.4.0
    V0_4_0,
    /// 1.0.0
    V1_0_0,
    /// 1.1.0
    V1_1_0,
}

// === impl SpecVersion ===

impl SpecVersion {
    /// All of them, oldest first.
    pub const ALL: [Self; 7] = [
        Self::V0_1_0,
        Self::V0_2_0,
        Self::V0_3_0,
        Self::V0_3_1,
        Self::V0_4_0,
        Self::V1_0_0,
        Self::V1_1_0,
    ];
    /// The version that VERSION answers in.
    pub const CURRENT: Self = Self::V1_1_0;

    /// The version as text.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }

    /// The version of a configuration; the empty text means 0.1.0.
    pub fn of_conf(text: &str) -> Result<Self, Error> {
        let wanted = or_oldest(text);
        Self::ALL
            .into_iter()
            .find(|version| version.as_str() == wanted)
            .ok_or_else(|| {
                let supported: Vec<String> = Self::ALL
                    .iter()
                    .map(|version| format!("{:?}", version.as_str()))
                    .collect();
                Error::new(Code::IncompatibleVersion, "incompatible CNI versions").with_details(
                    format!(
                        "config is {wanted:?}, plugin supports [{}]",
                        supported.join(" ")
                    ),
                )
            })
    }

    /// The version of a configuration for a verb that exists since `since`. Compares numbers, so that a
    /// version nobody has heard of is told apart from one that is too old, as libcni does.
    pub fn of_conf_for_verb(text: &str, since: Self, verb: &str) -> Result<Self, Error> {
        let too = |who| {
            Error::new(
                Code::IncompatibleVersion,
                format!("{who} version does not allow {verb}"),
            )
        };
        let wanted = numbers(or_oldest(text))?;
        if wanted < numbers(since.as_str())? {
            return Err(too("config"));
        }
        if wanted > numbers(Self::CURRENT.as_str())? {
            return Err(too("plugin"));
        }
        Self::of_conf(text)
    }
}

fn or_oldest(text: &str) -> &str {
    if text.is_empty() {
        SpecVersion::V0_1_0.as_str()
    } else {
        text
    }
}

/// Up to three numbers; missing ones are zero.
fn numbers(text: &str) -> Result<[u64; 3], Error> {
    let parts: Vec<&str> = text.split('.').collect();
    let mut numbers = [0; 3];
    if parts.len() > numbers.len() {
        return Err(Error::new(
            Code::Decode,
            format!("invalid version {text:?}: too many parts"),
        ));
    }
    for (number, part) in numbers.iter_mut().zip(parts) {
        *number = part.parse().map_err(|_| {
            Error::new(
                Code::Decode,
                format!("invalid version {text:?}: {part:?} is no number"),
            )
        })?;
    }
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_is_read_and_none_means_the_oldest() {
        for version in SpecVersion::ALL {
            assert_eq!(SpecVersion::of_conf(version.as_str()), Ok(version));
        }
        assert_eq!(SpecVersion::of_conf(""), Ok(SpecVersion::V0_1_0));
    }

    #[test]
    fn an_unknown_version_is_refused_with_the_list() {
        let error = SpecVersion::of_conf("9.9.9").unwrap_err();
        assert_eq!(error.code, Code::IncompatibleVersion);
        assert_eq!(
            error.details,
            r#"config is "9.9.9", plugin supports ["0.1.0" "0.2.0" "0.3.0" "0.3.1" "0.4.0" "1.0.0" "1.1.0"]"#
        );
    }

    #[test]
    fn a_verb_has_its_first_version() {
        use SpecVersion as V;
        for (text, since, answer) in [
            ("0.4.0", V::V0_4_0, Ok(V::V0_4_0)),
            ("1.1.0", V::V0_4_0, Ok(V::V1_1_0)),
            ("0.3.1", V::V0_4_0, Err("config version does not allow X")),
            ("", V::V0_4_0, Err("config version does not allow X")),
            ("1.0.0", V::V1_1_0, Err("config version does not allow X")),
            ("9.9.9", V::V1_1_0, Err("plugin version does not allow X")),
            ("0.9.0", V::V0_4_0, Err("incompatible CNI versions")),
            (
                "1.a.0",
                V::V0_4_0,
                Err(r#"invalid version "1.a.0": "a" is no number"#),
            ),
            (
                "1.0.0.0",
                V::V0_4_0,
                Err(r#"invalid version "1.0.0.0": too many parts"#),
            ),
        ] {
            let got = V::of_conf_for_verb(text, since, "X").map_err(|error| error.message);
            assert_eq!(got, answer.map_err(str::to_owned), "{text}");
        }
    }
}
