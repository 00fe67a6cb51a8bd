//! Every row holds in every mode: the rows of this suite, run again with iptables and with IPVS.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::{
    network::Network,
    proxy::{MODE, Mode},
    switch::has_ipvs,
};

/// What looks at nftables itself, is of one mode, or names its modes.
const OF_NFTABLES: [&str; 23] = [
    "a_killed_proxy_takes_over_what_stands_and_changes_nothing",
    "a_slot_that_has_gone_is_no_loss",
    "drift_is_repaired_and_others_are_left_alone",
    "the_listing_can_be_loaded_and_is_ours_still",
    "the_number_of_rules_does_not_grow_with_services",
    "affinity::sessions_end_after_their_time",
    "affinity::sessions_outlive_the_proxy",
    "check_ports::a_proxy_that_does_not_follow_is_told_of",
    "external::external_ips_are_not_served_where_their_gate_is_shut",
    "health::",
    "hot_switch::",
    "http::",
    "inspect::a_difference_is_shown_and_left_as_it_is",
    "inspect::an_explanation_can_be_read",
    "iptables::",
    "ipvs::",
    "ipvs_filter::",
    "localhost::",
    "modes::",
    "node::the_node_may_come_with_the_balancers_address",
    "switch::",
    "takeover::",
    "tuning::",
];

fn every_row_holds(mode: &str) {
    if Mode::of_run() != Mode::Nftables {
        return;
    }
    // One suite beside this one is enough for a machine.
    static ONE: Mutex<()> = Mutex::new(());
    let _turn = ONE.lock().unwrap_or_else(PoisonError::into_inner);
    let mut command = Command::new(env::current_exe().unwrap());
    command.env(MODE, mode).stdout(Stdio::piped());
    if env::var_os("RUST_TEST_THREADS").is_none() {
        command.args(["--test-threads", "2"]);
    }
    for name in OF_NFTABLES {
        command.args(["--skip", name]);
    }
    let mut suite = command.spawn().unwrap();
    let mut told = String::new();
    for line in BufReader::new(suite.stdout.take().unwrap()).lines() {
        let line = line.unwrap();
        // It takes long on some machines; whoever looks on wants to know how far it is.
        println!("{line}");
        told.push_str(&line);
    }
    assert!(
        suite.wait().unwrap().success(),
        "not every row holds with {mode}"
    );
    let passed = told.matches("... ok").count();
    assert!(passed > 25, "{passed} rows with {mode}");
    println!("{passed} rows hold with {mode}");
}

#[test]
fn every_row_holds_with_iptables_in_nf_tables() {
    every_row_holds("iptables-nft");
}

#[test]
fn every_row_holds_with_legacy_iptables() {
    every_row_holds("iptables-legacy");
}

/// Rows that are for everybody hold where the kernel has IPVS.
#[test]
fn every_row_holds_with_ipvs() {
    if has_ipvs(&Network::new()) {
        every_row_holds("ipvs");
    } else {
        println!("skipped: IPVS is not in this kernel");
    }
}
