use std::io::Write as _;

use anyhow::{Context as _, Result};

/// Rows of what was measured, ours and the peer's.
#[derive(Default)]
pub struct Table(Vec<[String; 4]>);

impl Table {
    pub fn row(&mut self, what: &str, ours: &str, peer: Option<String>, wanted: &str) {
        let peer = peer.unwrap_or_else(|| "–".to_owned());
        eprintln!("{what}: {ours} (Docker: {peer}; to reach: {wanted})");
        self.0.push([what.to_owned(), ours.to_owned(), peer, wanted.to_owned()]);
    }

    pub fn print(&self) -> Result<()> {
        let mut out = std::io::stdout().lock();
        let mut line = |text: String| writeln!(out, "{text}").context("print the table");
        line("| what | skep | Docker | to reach |".to_owned())?;
        line("|---|---|---|---|".to_owned())?;
        for row in &self.0 {
            line(format!("| {} |", row.join(" | ")))?;
        }
        Ok(())
    }
}

/// The middle value, for times and rates alike.
pub fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
