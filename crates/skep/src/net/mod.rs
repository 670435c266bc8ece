//! `skep net`: a client that asks a daemon about its network.
//!
//! Exit codes: 0 when a traced packet arrives (or is handed to another host), 1 when it does not,
//! 2 for wrong usage, 3 when the daemon could not be asked or refused to answer.

mod client;
mod paint;
mod render;

use std::io::{IsTerminal as _, Write as _};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Args, Subcommand};
use skep_net::Trace;

use client::Endpoint;
use paint::Paint;

/// A packet does not arrive.
const LOST: u8 = 1;
/// There is no answer.
const UNANSWERED: u8 = 3;

#[derive(Debug, Subcommand)]
pub enum NetCommand {
    /// Walk the way of a packet through this host, as its kernel is now
    #[command(after_help = "\
Targets: web, web:8080, 8080, 10.77.0.1:8080, 53/udp. From outside and from the host a service is\n\
reached by its published ports, from a container by its name and the port in the task.\n\n\
Exit codes: 0 it arrives, 1 it does not, 3 the daemon could not be asked or cannot tell.")]
    Trace(TraceFlags),
}

#[derive(Debug, Args)]
pub struct TraceFlags {
    /// SERVICE, SERVICE:PORT, HOST:PORT or PORT, with /udp where that is meant
    pub target: String,
    /// Where the packet starts: outside, host, or a container of this host
    #[arg(long, value_name = "WHERE", default_value = "outside")]
    pub from: String,
    /// Print JSON, with every detail
    #[arg(long)]
    pub json: bool,
    /// Daemon to ask: unix://PATH or tcp://HOST:PORT
    #[arg(short = 'H', long = "host", value_name = "ADDRESS", env = "DOCKER_HOST")]
    pub daemon: Option<String>,
}

/// Runs a subcommand to its end.
pub fn main(command: &NetCommand) -> ExitCode {
    let NetCommand::Trace(flags) = command;
    match trace(flags) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::from(LOST),
        Err(error) => {
            eprintln!("skep net trace: {error:#}");
            ExitCode::from(UNANSWERED)
        }
    }
}

/// Whether the packet arrives.
fn trace(flags: &TraceFlags) -> Result<bool> {
    let endpoint = Endpoint::parse(flags.daemon.as_deref())?;
    let path = format!(
        "/skep/v1/net/trace?target={}&from={}",
        client::escape(&flags.target),
        client::escape(&flags.from)
    );
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("start the runtime")?;
    let body = runtime.block_on(client::get(&endpoint, &path))?;
    let trace: Trace = serde_json::from_slice(&body).context("read the daemon's answer")?;
    let text = if flags.json {
        // As the daemon said it: a newer one may know fields that this client does not.
        let value: serde_json::Value =
            serde_json::from_slice(&body).context("read the daemon's answer")?;
        format!("{}\n", serde_json::to_string_pretty(&value).context("write JSON")?)
    } else {
        let colours = std::io::stdout().is_terminal()
            && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty());
        render::text(&trace, &Paint { colours })
    };
    std::io::stdout().lock().write_all(text.as_bytes()).context("print")?;
    Ok(trace.verdict.outcome.is_good())
}
