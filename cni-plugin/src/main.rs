//! The binary: a CNI plugin under whichever name it is called by.

use std::{env, io, process::ExitCode};

fn main() -> ExitCode {
    let program = env::args_os().next().unwrap_or_default();
    cni_plugin::run(
        &program,
        |name| env::var_os(name),
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
}
