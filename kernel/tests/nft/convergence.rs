//! Whatever stands, [`diff`] makes of it what is wanted, and then finds nothing more to do.

use kernel::nft::{Fake, ObservedTable, Table, diff};
use proptest::prelude::*;

use crate::{
    sandbox::Sandbox,
    tables::{table, two_tables},
};

/// What is read after a table was made from nothing.
pub fn observed(table: &Table) -> Option<ObservedTable> {
    let mut fake = Fake::default();
    diff(None, table)
        .iter()
        .for_each(|transaction| fake.apply(transaction).unwrap());
    without_generation(fake.read(table.family, &table.name))
}

/// The rest of two observations can be compared: without what the kernel counts.
pub fn without_generation(table: Option<ObservedTable>) -> Option<ObservedTable> {
    table.map(|mut table| {
        table.generation = 0;
        let rules = table.chains.values_mut().flat_map(|chain| &mut chain.rules);
        rules.for_each(|rule| rule.handle = 0);
        table
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_fake_gets_from_any_table_to_any_other(tables in two_tables()) {
        let mut fake = Fake::default();
        for table in &tables {
            let have = fake.read(table.family, &table.name);
            for transaction in diff(have.as_ref(), table) {
                fake.apply(&transaction).unwrap();
            }
            let have = fake.read(table.family, &table.name);
            prop_assert_eq!(diff(have.as_ref(), table), vec![]);
            prop_assert_eq!(without_generation(have), observed(table));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn the_kernel_gets_from_any_table_to_any_other(tables in two_tables()) {
        let mut sandbox = Sandbox::new();
        for table in &tables {
            let have = sandbox.read(table);
            for transaction in diff(have.as_ref(), table) {
                sandbox.handle.apply(&transaction).unwrap();
            }
            let have = sandbox.read(table);
            prop_assert_eq!(diff(have.as_ref(), table), vec![]);
            prop_assert_eq!(without_generation(have), observed(table));
        }
    }

    #[test]
    fn nft_makes_the_same_of_the_text(table in table()) {
        let (mut ours, mut theirs) = (Sandbox::new(), Sandbox::new());
        for transaction in diff(None, &table) {
            ours.handle.apply(&transaction).unwrap();
            let text = transaction.to_string();
            if let Err(complaint) = theirs.nft(&["-f", "-"], &text) {
                return Err(TestCaseError::fail(complaint));
            }
        }
        prop_assert_eq!(ours.list(), theirs.list());
        prop_assert_eq!(without_generation(ours.read(&table)), without_generation(theirs.read(&table)));
    }
}
