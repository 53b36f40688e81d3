//! What tests start their processes through (they end with the test, whatever happens to it), and the small
//! service behind their proxies.

use std::process::ExitCode;

fn main() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().skip(1).collect();
    e2e::launch::main(&arguments)
}
