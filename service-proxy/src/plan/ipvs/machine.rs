//! What of the kernel's settings depends on its release.

/// The value that `net.ipv4.vs.conn_reuse_mode` should have; `None`: the kernel's own is right, or there is none.
///
/// From 4.1 on, a client that comes from the same port again is not let to a real server without weight, and up
/// to 5.8 that takes a second with conntrack (kubernetes#81775). 0 avoids it; from 5.9 on it needs no avoiding.
pub fn conn_reuse_mode(release: &str) -> Option<&'static str> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(str::parse);
    let (Some(Ok(major)), Some(Ok(minor))) = (numbers.next(), numbers.next()) else {
        return None;
    };
    ((4_u32, 1_u32)..(5, 9))
        .contains(&(major, minor))
        .then_some("0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn by_release() {
        for (release, expected) in [
            ("4.0.9", None),
            ("4.1", Some("0")),
            ("4.19.0-27-amd64", Some("0")),
            ("5.8.18", Some("0")),
            ("5.9.0", None),
            ("6.1.0-56-amd64", None),
            ("", None),
        ] {
            assert_eq!(conn_reuse_mode(release), expected, "{release:?}");
        }
    }
}
