//! Router advertisements as something to drop.

use std::collections::BTreeMap;

use kernel::{
    Family, IfName,
    nft::{ChainKind, Field, Hook, Match, Operator, Statement, Table, Value, Verdict},
};

use super::nftables::chain;

/// The table that drops them.
pub const ADVERTISEMENTS_TABLE: &str = "tweed-flannel-agent";

const ICMPV6: u8 = 58;
/// RFC 4861, section 4.2.
const ROUTER_ADVERTISEMENT: u8 = 134;

/// The table that drops router advertisements coming in by these devices; `None` if there are none.
pub fn advertisements_table(devices: &[IfName]) -> Option<Table> {
    let rules = devices.iter().map(dropped).collect();
    let chain = chain(ChainKind::Filter, Hook::Input, 0, rules);
    (!devices.is_empty()).then(|| Table {
        family: Family::V6,
        name: ADVERTISEMENTS_TABLE.to_owned(),
        chains: BTreeMap::from([("advertisements".to_owned(), chain)]),
        sets: BTreeMap::new(),
    })
}

fn dropped(device: &IfName) -> Vec<Statement> {
    let is = |field, value| {
        Statement::Match(Match {
            field,
            operator: Operator::Is(value),
        })
    };
    vec![
        is(Field::InputInterface, Value::IfName(device.clone())),
        is(Field::Protocol, Value::Protocol(ICMPV6)),
        is(Field::Icmpv6Type, Value::Icmpv6Type(ROUTER_ADVERTISEMENT)),
        Statement::Verdict(Verdict::Drop),
    ]
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use kernel::nft::diff;

    use super::*;

    #[test]
    fn only_those_by_the_devices_are_dropped() {
        assert_eq!(advertisements_table(&[]), None);
        let devices = ["flannel.1", "flannel-v6.1"].map(|it| it.parse().unwrap());
        let table = advertisements_table(&devices).unwrap();
        let commands: Vec<_> = diff(None, &table).iter().map(ToString::to_string).collect();
        let text = commands.join("\n");
        for device in devices {
            let rule = format!("iifname \"{device}\" meta l4proto 58 icmpv6 type 134 drop");
            assert!(text.contains(&rule), "no {rule} in {text}");
        }
        assert!(text.contains("type filter hook input priority 0"), "{text}");
    }
}
