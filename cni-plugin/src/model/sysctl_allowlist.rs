//! Which kernel settings the tuning plugin may change, as the administrator's file says.

use regex::bytes::{Regex, RegexBuilder};

use super::Error;

/// Regular expressions of the keys that are allowed; a match anywhere in the key is one.
#[derive(Clone, Debug)]
pub struct SysctlAllowlist {
    lines: Vec<(String, Regex)>,
}

// === impl SysctlAllowlist ===

impl SysctlAllowlist {
    /// Parses the file's text: an expression on each line that is not blank. Classes (`\d`, `\w`) are of
    /// ASCII, as in Go.
    pub fn parse(text: &str) -> Result<Self, Error> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        let compiled = lines.map(|line| {
            let regex = RegexBuilder::new(line).unicode(false).build();
            let named = regex.map(|regex| (line.to_owned(), regex));
            named.map_err(|error| Error::config(format!("sysctl allowlist: {line:?}: {error}")))
        });
        let lines = compiled.collect::<Result<_, Error>>()?;
        Ok(Self { lines })
    }

    /// Refuses a key that no expression matches, in the words of the reference.
    pub fn check(&self, key: &str) -> Result<(), Error> {
        let mut lines = self.lines.iter();
        if lines.any(|(_, regex)| regex.is_match(key.as_bytes())) {
            return Ok(());
        }
        let allowed: Vec<&str> = self.lines.iter().map(|(line, _)| line.as_str()).collect();
        Err(Error::config(format!(
            "Sysctl {key} is not allowed. Only the following sysctls are allowed: [{}]",
            allowed.join(" ")
        )))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_match_anywhere_allows() {
        let text = "^net\\.ipv4\\.conf\\.\\w+\\.arp_\\d$\n\n  somaxconn  \n";
        let list = SysctlAllowlist::parse(text).unwrap();
        for (key, allowed) in [
            ("net.ipv4.conf.eth0.arp_1", true),
            ("net.ipv4.conf.eth0.arp_x", false),
            ("net.core.somaxconn", true),
            ("net.core.rmem_max", false),
        ] {
            assert_eq!(list.check(key).is_ok(), allowed, "{key}");
        }
        let error = SysctlAllowlist::parse("a\nb").unwrap().check("c");
        assert_eq!(
            error.unwrap_err().message,
            "Sysctl c is not allowed. Only the following sysctls are allowed: [a b]"
        );
        assert!(SysctlAllowlist::parse("").unwrap().check("net.x").is_err());
        let error = SysctlAllowlist::parse("a(").unwrap_err();
        assert!(error.message.starts_with("sysctl allowlist: \"a(\": "));
    }
}
