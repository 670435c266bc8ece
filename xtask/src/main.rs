//! Chores of the repository: `cargo xtask levels` checks that no crate depends upwards and that
//! `unsafe` stays in `skep-sys`.

mod levels;
mod unsafety;

use std::process::ExitCode;

fn main() -> ExitCode {
    let command = std::env::args().nth(1).unwrap_or_default();
    let outcome = match command.as_str() {
        "levels" => levels::check().and_then(|()| unsafety::check()),
        _ => {
            eprintln!("usage: cargo xtask levels");
            return ExitCode::from(2);
        }
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask {command}: {error:#}");
            ExitCode::FAILURE
        }
    }
}
