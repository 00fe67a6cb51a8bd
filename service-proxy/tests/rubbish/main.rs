//! Whatever stands in objects and in the configuration's file: nothing panics, what can't be understood is refused, and
//! what can be is something that the kernel takes, so that one object never stands in the way of others.
//! `TWEED_FUZZ_SECONDS` has it go on for that long, `TWEED_FUZZ_SEED` repeats a run.

#![allow(clippy::unwrap_used)]

#[path = "../../../cni-plugin/tests/fuzz/mutation.rs"]
mod mutation;
mod objects;
mod words;

use std::{
    env,
    io::Write,
    process::{Command, Stdio},
    time::{Duration, Instant, SystemTime},
};

use clap::Parser;
use kernel::{Family, netns::Namespace, nft};
use mutation::{Mutation, mutation};
use objects::{Cluster, configuration, sound};
use proptest::{
    collection::vec,
    prelude::*,
    test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner},
};
use service_proxy::options::Options;

/// A network namespace that is gone with its owner.
struct Node {
    name: String,
    namespace: Namespace,
}

// === impl Node ===

impl Node {
    fn new() -> Self {
        let name = format!("spr{}", std::process::id());
        let namespace = Namespace::create_named(&name).unwrap();
        Self { name, namespace }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        if let Err(error) = Namespace::delete_named(&self.name) {
            eprintln!("{error}");
        }
    }
}

/// What iptables-restore has against a text, if it has something.
fn refusal(family: Family, text: &str) -> Option<String> {
    let program = match family {
        Family::V4 => "iptables-nft-restore",
        Family::V6 => "ip6tables-nft-restore",
    };
    let mut child = Command::new(program)
        .args(["--noflush", "--test"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    // What it refuses it does not read to the end.
    drop(stdin.write_all(text.as_bytes()));
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then(|| format!("{told}\n{text}"))
}

/// Has a strategy's values tried, as many times as there is time for.
fn try_many<S: Strategy>(strategy: &S, test: impl Fn(S::Value) -> Result<(), TestCaseError>) {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("TWEED_FUZZ_SECONDS").unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let first = number("TWEED_FUZZ_SEED").unwrap_or(now.unwrap().as_secs());
    let end = Instant::now() + Duration::from_secs(seconds);
    for number in first.. {
        println!("TWEED_FUZZ_SECONDS={seconds} TWEED_FUZZ_SEED={number}");
        let config = Config {
            failure_persistence: None,
            ..Config::with_cases(64)
        };
        let mut seed = [0; 32];
        seed[..8].copy_from_slice(&number.to_le_bytes());
        let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
        match TestRunner::new_with_rng(config, random).run(strategy, &test) {
            Ok(()) => {}
            Err(TestError::Fail(reason, case)) => panic!("{reason}: {case:#?}"),
            Err(TestError::Abort(reason)) => panic!("{reason}"),
        }
        if Instant::now() >= end {
            return;
        }
    }
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    vec(mutation(), 1..4)
}

#[test]
fn the_kernel_takes_what_is_understood_of_objects() {
    let node = Node::new();
    node.namespace
        .run(|| {
            try_many(&mutations(), |mutations| {
                let cluster = Cluster::damaged(&mutations);
                for family in Family::ALL {
                    let plan = cluster.plan(family);
                    prop_assert!(plan.balance(&sound(family)).is_some());
                    let applied = nft::Handle::open().unwrap().reconcile(&plan.table());
                    prop_assert!(applied.is_ok(), "{applied:?}");
                    let refusal = refusal(family, &cluster.chains(family));
                    prop_assert!(refusal.is_none(), "{refusal:?}");
                }
                Ok(())
            });
        })
        .unwrap();
}

#[test]
fn a_configuration_is_understood_or_refused() {
    let options = Options::try_parse_from(["service-proxy", "--config", "/config.conf"]).unwrap();
    try_many(&mutations(), |mutations| {
        let mut value = configuration();
        for mutation in mutations {
            mutation.apply(&mut value);
        }
        if let Ok(loaded) = options.interpret(Some(value.to_string())) {
            drop(options.settings(&loaded.configuration));
        }
        Ok(())
    });
}
