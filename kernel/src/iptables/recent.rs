//! Clients that rules with `-m recent` remember.

use std::{fs, io, net::IpAddr};

use crate::{Error, Result, below::below};

/// Where the lists are, of the calling thread's network namespace (`xt_recent`).
const DIRECTORY: &str = "/proc/thread-self/net/xt_recent";

/// The clients in a list; none if there is no such list. Those that have not come for long are among them until
/// somebody else comes.
///
/// # Errors
/// If the kernel can't be asked.
pub fn recent(list: &str) -> Result<Vec<IpAddr>> {
    let attempted = || format!("read {DIRECTORY}/{list}");
    let path = below(DIRECTORY, list).map_err(|errno| Error::new(attempted(), errno))?;
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.lines().filter_map(client).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Error::new(attempted(), error)),
    }
}

/// `src=10.0.0.1 ttl: 64 last_seen: ...`.
fn client(line: &str) -> Option<IpAddr> {
    let word = line.split(' ').next()?;
    word.strip_prefix("src=")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_are_read() {
        for (line, expected) in [
            (
                "src=10.0.0.1 ttl: 64 last_seen: 4295299936 oldest_pkt: 1 4295299936",
                Some("10.0.0.1"),
            ),
            (
                "src=fd00:0000:0000:0000:0000:0000:0000:0001 ttl: 64 last_seen: 1",
                Some("fd00::1"),
            ),
            ("", None),
        ] {
            let expected = expected.map(|it| it.parse::<IpAddr>().unwrap());
            assert_eq!(client(line), expected);
        }
    }
}
