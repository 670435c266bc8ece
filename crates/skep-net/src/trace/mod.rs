//! The way a packet takes, read from the kernel.
//!
//! **What it promises.** [`trace`] follows the first packet of a connection through the
//! namespaces of this host, as the kernel would: it evaluates the nftables rules that
//! are there (ours and others'), the routing tables, neighbour and forwarding entries,
//! bridges, cables and sockets, as they were read a moment before. The desired state is
//! used for two things only: to know which cable leads where, and to say what is wrong
//! when the kernel does something else. Where one of several addresses is chosen, all
//! of them are followed.
//!
//! **Pure.** Namespaces come as [`Live`] values. A walk stops at the first one it has
//! not got, the caller reads it and asks again; walks are short, so nothing is kept
//! between two attempts. `apply::survey` does the reading.
//!
//! **What was rejected.** Following real packets (`nft monitor trace`, probes) shows
//! only what happens to come by, changes rules to do so, and says nothing about the
//! connection that a user complains about. Counters in our rules were left out: they
//! cost every packet something, and nobody measured what.
//!
//! **To add something**: a new rule expression goes into `eval`, a new kind of link
//! into `wire`, what a bridge looks at into `bridge`, a new thing that can be wrong into [`Reason`] and where it is noticed.

mod begin;
mod bridge;
mod eval;
mod expect;
mod live;
mod packet;
mod question;
mod report;
mod rules;
mod scene;
#[cfg(test)]
mod tests;
mod walk;
mod wire;

pub use live::{
    Entry, FlowKey, Forwarding, Listening, Live, LiveLink, LiveRoute, Neighbour, Policy, RouteKind,
    Switching,
};
pub use question::{Question, TraceQuery};
pub use report::{
    Branch, Candidate, Hop, Interface, Origin, OriginKind, Outcome, PacketView, Path, Reason,
    RemoteNode, Role, Step, Trace, Verdict,
};
pub use rules::Tables;
pub use scene::{KnownPort, KnownService, Scene};

use crate::plan::NsName;
use crate::world::NameIndex;
use std::collections::BTreeSet;
use walk::{Stop, Walker};

/// Branches that are followed at one fork.
const BRANCHES: usize = 64;

/// Follows a packet. `Err` has the namespaces that must be read first.
pub fn trace(
    scene: &Scene<'_>,
    question: &Question,
    names: &NameIndex,
) -> Result<Trace, BTreeSet<NsName>> {
    let path = tree(scene, question, names, &mut Vec::new(), 0)?;
    let mut ends = Vec::new();
    leaves(&path, None, &mut ends);
    let name = match &question.start {
        question::Start::Container(id) => scene.role(&NsName::Sandbox(id.clone())).1,
        _ => String::new(),
    };
    Ok(Trace {
        version: Trace::VERSION,
        target: question.target.clone(),
        from: Origin { kind: question.start.kind(), name },
        service: question.service.clone(),
        protocol: question.protocol,
        verdict: sum(&ends),
        path,
    })
}

fn tree(
    scene: &Scene<'_>,
    question: &Question,
    names: &NameIndex,
    decisions: &mut Vec<usize>,
    skip: usize,
) -> Result<Path, BTreeSet<NsName>> {
    let mut walker = Walker::new(scene, question, decisions);
    let result = walker.begin(question, names);
    let mut hops = walker.hops;
    let passed = hops.len();
    let verdict = match result {
        Ok(verdict) | Err(Stop::End(verdict)) => Some(explained(verdict, &hops)),
        Err(Stop::Need(ns)) => return Err(BTreeSet::from([ns])),
        Err(Stop::Fork(candidates)) => {
            let mut needs = BTreeSet::new();
            let mut branches = Vec::new();
            for (index, candidate) in candidates.into_iter().take(BRANCHES).enumerate() {
                decisions.push(index);
                match tree(scene, question, names, decisions, passed) {
                    Ok(path) => branches.push(Branch { candidate, path }),
                    Err(more) => needs.extend(more),
                }
                decisions.pop();
            }
            if !needs.is_empty() {
                return Err(needs);
            }
            hops.drain(..skip.min(passed));
            return Ok(Path { hops, branches, verdict: None });
        }
    };
    hops.drain(..skip.min(passed));
    Ok(Path { hops, branches: Vec::new(), verdict })
}

/// A bad end has the first thing that was found wrong as its reason, and where that is.
fn explained(verdict: Verdict, hops: &[Hop]) -> Verdict {
    let mut findings = hops.iter().flat_map(|h| {
        h.steps.iter().filter_map(move |s| match s {
            Step::Finding { reason, text } => Some((h, *reason, text)),
            _ => None,
        })
    });
    match findings.next() {
        Some((hop, reason, text)) if !verdict.outcome.is_good() => {
            let text = match &hop.namespace {
                here if *here == verdict.at => text.clone(),
                there => format!("in {there}, {text}"),
            };
            // "Nobody publishes it" would contradict a finding that says who does.
            let text = match verdict.reason {
                Reason::NotPublished => text,
                _ => format!("{text}; {}", verdict.text),
            };
            Verdict { reason, text, ..verdict }
        }
        _ => verdict,
    }
}

fn leaves<'a>(
    path: &'a Path,
    candidate: Option<&'a Candidate>,
    ends: &mut Vec<(Option<&'a Candidate>, &'a Verdict)>,
) {
    ends.extend(path.verdict.as_ref().map(|v| (candidate, v)));
    for branch in &path.branches {
        leaves(&branch.path, Some(&branch.candidate), ends);
    }
}

/// One verdict over all branches.
fn sum(ends: &[(Option<&Candidate>, &Verdict)]) -> Verdict {
    let Some((_, first)) = ends.first() else {
        return Verdict {
            outcome: Outcome::Unresolved,
            reason: Reason::NoSuchAddress,
            at: String::new(),
            text: "there is nothing to choose from".to_owned(),
        };
    };
    if ends.len() == 1 {
        return (*first).clone();
    }
    let good = ends.iter().filter(|(_, v)| v.outcome.is_good()).count();
    let remote = ends.iter().filter(|(_, v)| v.outcome == Outcome::Remote).count();
    if good == ends.len() {
        let text = match remote {
            0 => format!("all {good} addresses answer"),
            all if all == good => format!("all {good} addresses are on other hosts"),
            some => format!("here: {} of {good}; on other hosts: {some}", good - some),
        };
        let outcome = if remote == good { Outcome::Remote } else { Outcome::Delivered };
        return Verdict { outcome, reason: Reason::Ok, at: String::new(), text };
    }
    let bad = ends.iter().find(|(_, v)| !v.outcome.is_good());
    let Some((candidate, worst)) = bad else { return (*first).clone() };
    if good == 0 && ends.iter().all(|(_, v)| v.reason == worst.reason) {
        let text = format!("none of {} addresses answers: {}", ends.len(), worst.text);
        return Verdict { at: String::new(), text, ..(*worst).clone() };
    }
    let which = candidate.map_or_else(String::new, |c| match &c.task {
        Some(task) => format!("{} ({task}): ", c.address),
        None => format!("{}: ", c.address),
    });
    Verdict {
        outcome: Outcome::Mixed,
        reason: Reason::SomeFail,
        at: String::new(),
        text: format!(
            "{} of {} addresses fail; {which}{}",
            ends.len() - good,
            ends.len(),
            worst.text
        ),
    }
}
