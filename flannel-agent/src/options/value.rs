//! What flags take.

use regex::bytes::{Regex, RegexBuilder};

/// What Go's `strconv.ParseBool` takes.
pub(super) fn go_bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("want true or false".into()),
    }
}

/// A regular expression as Go takes it, whose classes such as `\\d` are of ASCII.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    RegexBuilder::new(text).unicode(false).build()
}

pub(super) fn endpoint(text: &str) -> Result<String, String> {
    let address = match text.split_once("://") {
        Some(("http" | "https", address)) => address,
        Some((scheme, _)) => {
            return Err(format!(
                "scheme {scheme} is not supported: want http://HOST:PORT or https://HOST:PORT"
            ));
        }
        None => text,
    };
    if address.is_empty() {
        return Err("want http://HOST:PORT or https://HOST:PORT".into());
    }
    Ok(text.to_owned())
}

pub(super) fn prefix(text: &str) -> Result<String, String> {
    match text.trim_end_matches('/') {
        "" => Err("want a key as /coreos.com/network".into()),
        prefix => Ok(prefix.to_owned()),
    }
}
