//! The executable: arguments, configuration, wiring.
//!
//! The same file is the daemon and the shim between a container and the daemon (`skep shim …`), which
//! is decided before anything else is touched: it must stay tiny and single-threaded.
//!
//! Exit codes: 0 after a clean shutdown, 1 when the daemon could not start or had to end, 2 for wrong
//! usage. `skep net trace` has its own: see [`net`].

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests make files as they like"))]

mod args;
mod checks;
mod config;
mod daemon;
mod executor;
mod listen;
mod lock;
mod logging;
mod memory;
mod net;
mod reload;
mod service_manager;
mod warnings;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser as _;

use args::{Arguments, Command};

fn main() -> ExitCode {
    let mut words: Vec<OsString> = std::env::args_os().collect();
    if words.get(1).is_some_and(|word| word == "shim") {
        return skep_container::shim::main(words.split_off(2));
    }
    match Arguments::parse().command {
        Command::Net(command) => net::main(&command),
        Command::Daemon(flags) => {
            skep_sys::malloc::share_arenas();
            daemon::main(&flags)
        }
    }
}
