//! Rules of equal meaning have one form, whoever wrote them: kube-proxy's words, ours, or those of
//! `iptables-save` by either backend.

use ipnetwork::IpNetwork;
use kernel::iptables::words;

/// The scale of probabilities in the kernel.
const PROBABILITY: f64 = 2_147_483_648.0;

/// The form of a rule, to be compared with others: its options in a fixed order, in the kernel's values,
/// without what goes without saying.
pub fn canonical(rule: &str) -> String {
    let mut options: Vec<String> = Vec::new();
    let mut words = words(rule).into_iter().peekable();
    while let Some(word) = words.next() {
        let negated = word == "!";
        let Some(name) = (if negated { words.next() } else { Some(word) }) else {
            break;
        };
        let mut values = Vec::new();
        while let Some(value) = words.next_if(|next| !is_option(next)) {
            values.push(value);
        }
        if let Some(option) = option(&name, &values) {
            options.push(if negated {
                format!("! {option}")
            } else {
                option
            });
        }
    }
    options.sort_unstable();
    options.join(" ")
}

/// The chain or target that a rule leads to.
pub fn target(rule: &str) -> Option<&str> {
    let mut words = rule
        .split(' ')
        .skip_while(|word| !matches!(*word, "-j" | "-g"));
    words.nth(1)
}

fn is_option(word: &str) -> bool {
    word == "!" || (word.starts_with('-') && word.len() > 1)
}

/// An option as the kernel has it; `None` if it goes without saying.
fn option(name: &str, values: &[String]) -> Option<String> {
    let value = values.join(" ");
    let (name, value) = match name {
        // Each option of a match is of one match only.
        "-m" | "--mask" | "--rsource" => return None,
        "-s" | "-d" => (name, network(&value)?),
        "--or-mark" => ("--set-xmark", format!("{value}/{value}")),
        "--xor-mark" => ("--set-xmark", format!("{value}/0x0")),
        "--probability" => {
            let share: f64 = value.parse().ok()?;
            (name, format!("{:.0}", share * PROBABILITY))
        }
        "--reject-with" if value.ends_with("port-unreachable") => return None,
        "--ctstate" => {
            let mut states: Vec<_> = value.split(',').collect();
            states.sort_unstable();
            (name, states.join(","))
        }
        _ => (name, value),
    };
    Some(format!("{name} {value}"))
}

/// A network with its length; `None` if it holds all addresses.
fn network(text: &str) -> Option<String> {
    match text.parse::<IpNetwork>() {
        Ok(network) if network.prefix() == 0 => None,
        Ok(network) => Some(network.to_string()),
        Err(_) => Some(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_what_is_saved() {
        for (written, saved) in [
            (
                "-m comment --comment \"a/b:c cluster IP\" -m tcp -p tcp -d 10.0.0.1 --dport 80 ! -s 10.0.0.0/8 -j X",
                "! -s 10.0.0.0/8 -d 10.0.0.1/32 -p tcp -m comment --comment \"a/b:c cluster IP\" -m tcp --dport 80 -j X",
            ),
            (
                "-m statistic --mode random --probability 0.3333333333 -j X",
                "-m statistic --mode random --probability 0.33333333349 -j X",
            ),
            (
                "-j MARK --or-mark 0x4000",
                "-j MARK --set-xmark 0x4000/0x4000",
            ),
            (
                "-j MARK --xor-mark 0x4000",
                "-j MARK --set-xmark 0x4000/0x0",
            ),
            (
                "-d fd00::1 -j REJECT",
                "-d fd00::1/128 -j REJECT --reject-with icmp6-port-unreachable",
            ),
            (
                "-m recent --name X --rcheck --seconds 10800 --reap -j X",
                "-m recent --rcheck --seconds 10800 --reap --name X --mask 255.255.255.255 --rsource -j X",
            ),
            ("-s 0.0.0.0/0 -j X", "-j X"),
            (
                "-m conntrack ! --ctstate RELATED,ESTABLISHED,DNAT -j DROP",
                "-m conntrack ! --ctstate DNAT,RELATED,ESTABLISHED -j DROP",
            ),
            (
                "-m comment --comment a -j X",
                "-m comment --comment \"a\" -j X",
            ),
        ] {
            assert_eq!(canonical(written), canonical(saved));
        }
        for (one, other) in [
            ("-d 10.0.0.1 -j X", "-d 10.0.0.2 -j X"),
            ("-d 10.0.0.1 -j X", "! -d 10.0.0.1 -j X"),
            (
                "-m comment --comment \"a b\" -j X",
                "-m comment --comment \"a c\" -j X",
            ),
            ("-j REJECT", "-j REJECT --reject-with tcp-reset"),
        ] {
            assert_ne!(canonical(one), canonical(other));
        }
    }

    #[test]
    fn targets() {
        assert_eq!(
            target("-s 10.0.0.1 -j DNAT --to-destination 1"),
            Some("DNAT")
        );
        assert_eq!(target("-m comment --comment a"), None);
    }
}
