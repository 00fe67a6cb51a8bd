//! Whatever is in the configuration, the environment and the files: a call ends with a result or with an
//! error object, never otherwise, and leaves nothing outside of the directories that it is given.
//! `TWEED_FUZZ_SECONDS` has it go on for that long, `TWEED_FUZZ_SEED` repeats the calls of a run.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod case;
#[path = "../lab/mod.rs"]
mod lab;
mod mutation;
mod outside;
mod words;

use std::{
    env,
    path::Path,
    time::{Duration, Instant, SystemTime},
};

use case::{HOST_VETH, case};
use lab::Netns;
use outside::Outside;
use proptest::test_runner::{Config, RngAlgorithm, TestError, TestRng, TestRunner};

#[test]
fn every_call_ends_with_a_result_or_an_error_and_leaves_nothing_outside() {
    let number = |name| env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let seconds = number("TWEED_FUZZ_SECONDS").unwrap_or_default();
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let seed = number("TWEED_FUZZ_SEED").unwrap_or(now.unwrap().as_secs());
    println!("TWEED_FUZZ_SECONDS={seconds} TWEED_FUZZ_SEED={seed}");
    let end = Instant::now() + Duration::from_secs(seconds);
    // What is made all the same is made in there.
    let netns = Netns::new();
    let container = Netns::new();
    netns.add_veth(HOST_VETH, &container, "eth0");
    let base = tempfile::tempdir().unwrap();
    netns.run(|| {
        let outside = Outside::enter(base.path());
        let mut calls = 0;
        for round in seed.. {
            calls += try_many(round, &container.path(), &outside);
            if Instant::now() >= end {
                println!("{calls} calls");
                return;
            }
        }
    });
}

/// Makes the calls that a number stands for; answers with how many they are.
fn try_many(number: u64, container: &Path, outside: &Outside) -> u32 {
    let config = Config {
        failure_persistence: None,
        ..Config::default()
    };
    let mut seed = [0; 32];
    seed[..8].copy_from_slice(&number.to_le_bytes());
    let random = TestRng::from_seed(RngAlgorithm::ChaCha, &seed);
    let mut runner = TestRunner::new_with_rng(config, random);
    let outcome = runner.run(&case(), |case| {
        case.run(container);
        outside.assert_untouched();
        Ok(())
    });
    match outcome {
        Ok(()) => runner.config().cases,
        Err(TestError::Fail(reason, case)) => panic!("{reason}: {case:#?}"),
        Err(TestError::Abort(reason)) => panic!("{reason}"),
    }
}
