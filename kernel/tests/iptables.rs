//! The iptables programs, both backends and both families.

#![allow(clippy::unwrap_used, clippy::expect_used, missing_docs)]

mod namespace;

use kernel::{
    Family,
    iptables::{Backend, Error, Iptables, in_use},
};
use namespace::TestNamespace;

const RULES: &str = "*nat\n:TWEED-TEST - [0:0]\n\
                     -A TWEED-TEST -p udp -m comment --comment \"a b\" -j RETURN\nCOMMIT\n";

fn everything() -> impl Iterator<Item = (Family, Backend)> {
    let families = Family::ALL.into_iter();
    families.flat_map(|family| Backend::ALL.map(|backend| (family, backend)))
}

#[test]
fn restored_rules_are_saved_and_others_stay() {
    let node = TestNamespace::new("iptables");
    for (family, backend) in everything() {
        node.namespace
            .run(|| {
                let iptables = Iptables::find(family, backend).unwrap();
                iptables.restore(RULES).unwrap();
                iptables.restore(RULES).unwrap();
                iptables
                    .restore("*nat\n:TWEED-OTHER - [0:0]\nCOMMIT\n")
                    .unwrap();
                let table = iptables.save("nat").unwrap();
                let chain = table.chain("TWEED-TEST").unwrap();
                let rule = r#"-p udp -m comment --comment "a b" -j RETURN"#;
                assert_eq!(
                    (chain.policy.as_deref(), &chain.rules[..]),
                    (None, &[rule.into()][..])
                );
                assert!(table.chain("TWEED-OTHER").is_some());
            })
            .unwrap();
    }
}

#[test]
fn the_plain_programs_know_their_backend() {
    for family in Family::ALL {
        let plain = Iptables::of_node(family).unwrap();
        let named = Iptables::find(family, plain.backend()).unwrap();
        assert_eq!(plain.family(), named.family());
    }
}

#[test]
fn a_refused_line_is_named_and_nothing_is_changed() {
    let node = TestNamespace::new("iptables-refused");
    for (family, backend) in everything() {
        node.namespace
            .run(|| {
                let iptables = Iptables::find(family, backend).unwrap();
                let text = "*nat\n:TWEED-TEST - [0:0]\n-A TWEED-TEST -j TWEED-NOWHERE\nCOMMIT\n";
                let error = iptables.restore(text).unwrap_err();
                println!("{error}");
                assert!(matches!(error, Error::Refused { .. }), "{error}");
                let text = error.to_string();
                assert!(text.contains("tables"), "{text}");
                assert!(text.contains("-restore --noflush --wait=5: "), "{text}");
                let table = iptables.save("nat").unwrap();
                assert_eq!(table.chain("TWEED-TEST"), None);
            })
            .unwrap();
    }
}

#[test]
fn large_inputs_and_outputs_pass() {
    let node = TestNamespace::new("iptables-large");
    node.namespace
        .run(|| {
            let iptables = Iptables::find(Family::V4, Backend::Nft).unwrap();
            let rule =
                "-A TWEED-TEST -s 10.0.0.0/8 -m comment --comment \"a longer text\" -j DROP\n";
            let rules = rule.repeat(3000);
            iptables
                .restore(&format!("*filter\n:TWEED-TEST - [0:0]\n{rules}COMMIT\n"))
                .unwrap();
            let table = iptables.save("filter").unwrap();
            assert_eq!(table.chain("TWEED-TEST").unwrap().rules.len(), 3000);
        })
        .unwrap();
}

#[test]
fn the_backend_in_use_is_the_one_with_rules_or_with_the_hint() {
    let node = TestNamespace::new("iptables-detect");
    node.namespace
        .run(|| {
            let [nft, legacy] =
                Backend::ALL.map(|backend| Iptables::find(Family::V6, backend).unwrap());
            assert_eq!(in_use().unwrap(), Backend::Nft);
            legacy.restore(RULES).unwrap();
            assert_eq!(in_use().unwrap(), Backend::Legacy);
            let hint = "*mangle\n:KUBE-KUBELET-CANARY - [0:0]\nCOMMIT\n";
            nft.restore(RULES).unwrap();
            legacy.restore(hint).unwrap();
            assert_eq!(in_use().unwrap(), Backend::Legacy);
            nft.restore(hint).unwrap();
            assert_eq!(in_use().unwrap(), Backend::Nft);
        })
        .unwrap();
}
