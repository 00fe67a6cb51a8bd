//! The binary: a CNI plugin under whichever name it is called by.

use std::{env, io, process::ExitCode};

fn main() -> ExitCode {
    let mut arguments = env::args_os();
    let program = arguments.next().unwrap_or_default();
    cni_plugin::run(
        &program,
        &arguments.collect::<Vec<_>>(),
        |name| env::var_os(name),
        &mut io::stdin().lock(),
        &mut io::stdout().lock(),
        &mut io::stderr().lock(),
    )
}
