//! A trace for people: a block for each hop, a line for each thing that happens there.

use skep_net::{
    Trace, TraceBranch, TraceCandidate, TraceHop, TraceInterface, TraceOriginKind, TraceOutcome,
    TracePath, TraceRole, TraceStep, TraceVerdict,
};

use super::paint::Paint;

/// Characters of a line.
const WIDTH: usize = 96;
/// Characters before a hop's steps.
const INDENT: usize = 4;
/// Characters of a step's label.
const LABEL: usize = 10;

/// The whole trace.
pub fn text(trace: &Trace, paint: &Paint) -> String {
    let mut page = Page { out: String::new(), paint, number: 0 };
    let from = match trace.from.kind {
        TraceOriginKind::Outside => "outside".to_owned(),
        TraceOriginKind::Host => "this host".to_owned(),
        TraceOriginKind::Container => format!("container {}", trace.from.name),
    };
    let service = match &trace.service {
        Some(service) if !trace.target.starts_with(service.as_str()) => {
            format!(" · service {service}")
        }
        _ => String::new(),
    };
    let line = format!("{} from {from} · {}{service}", trace.target, trace.protocol);
    page.line(&paint.bold(&line));
    page.path(&trace.path);
    page.line("");
    page.verdict(&trace.verdict, "");
    page.out
}

struct Page<'a> {
    out: String,
    paint: &'a Paint,
    number: usize,
}

impl Page<'_> {
    fn line(&mut self, text: &str) {
        self.out.push_str(text.trim_end());
        self.out.push('\n');
    }

    fn path(&mut self, path: &TracePath) {
        for (index, hop) in path.hops.iter().enumerate() {
            let last = index + 1 == path.hops.len();
            self.hop(hop, if last { &path.branches } else { &[] });
        }
        if path.branches.is_empty() {
            return;
        }
        let fork = self.number;
        for branch in shown(&path.branches).into_iter().filter_map(|n| path.branches.get(n)) {
            self.number = fork;
            self.line("");
            let title = format!("to {}", whose(&branch.candidate));
            self.line(&self.paint.bold(&title));
            self.path(&branch.path);
            if path.branches.len() > 1
                && let Some(verdict) = &branch.path.verdict
            {
                self.line("");
                self.verdict(verdict, "this one: ");
            }
        }
    }

    fn hop(&mut self, hop: &TraceHop, branches: &[TraceBranch]) {
        let name = |what: &str| {
            if hop.name.is_empty() { what.to_owned() } else { format!("{what} {}", hop.name) }
        };
        let title = match hop.role {
            TraceRole::Host => "host".to_owned(),
            TraceRole::Mesh => "routing mesh".to_owned(),
            TraceRole::Overlay => name("overlay"),
            TraceRole::Balancer => name("virtual addresses of"),
            TraceRole::Container => hop.name.clone(),
            TraceRole::Remote => name("host"),
        };
        let continues = hop.interface.is_none()
            && hop.packet.is_none()
            && self.number > 0
            && hop.role != TraceRole::Remote;
        if !continues {
            self.number += 1;
            self.line("");
            let place = match hop.role {
                TraceRole::Host => String::new(),
                _ => format!("  {}", hop.namespace),
            };
            let head = format!("{:>2}  {title}", self.number);
            self.line(&format!("{}{}", self.paint.bold(&head), self.paint.dim(&place)));
        }
        match (&hop.interface, &hop.packet) {
            (Some(interface), Some(packet)) => {
                let source = packet.source.map_or("anybody".to_owned(), |s| s.to_string());
                let text = format!("{source} → {}:{}", packet.destination, packet.port);
                self.step("in", &format!("{text} by {}", counters(interface)));
            }
            (None, Some(packet)) => {
                let source = packet.source.map(|s| format!("{s} ")).unwrap_or_default();
                self.step(
                    "packet",
                    &format!(
                        "{source}→ {}:{}/{}",
                        packet.destination, packet.port, packet.protocol
                    ),
                );
            }
            _ => {}
        }
        for step in &hop.steps {
            self.one(step, branches);
        }
    }

    fn one(&mut self, step: &TraceStep, branches: &[TraceBranch]) {
        match step {
            TraceStep::Name { name, network, answers } => {
                let list: Vec<String> = answers.iter().map(ToString::to_string).collect();
                self.step("name", &format!("{name} is {} (on {network})", list.join(", ")));
            }
            TraceStep::Rule { table, chain, handle, text, effect, counted } => {
                let counted = counted.map(|n| format!(", {n} packets")).unwrap_or_default();
                let place = format!("table {table}, chain {chain}, handle {handle}{counted}");
                self.step("rule", effect);
                self.out.push_str(&self.paint.dim(&format!("{}{place}", pad(""))));
                self.out.push('\n');
                let text = shorten(text, WIDTH - INDENT - LABEL);
                self.out.push_str(&self.paint.dim(&format!("{}{text}", pad(""))));
                self.out.push('\n');
            }
            TraceStep::Choice { how, candidates } => {
                for (index, candidate) in candidates.iter().enumerate() {
                    let label = if index == 0 { how.as_str() } else { "" };
                    self.choice(label, candidate, branches.get(index));
                    if let Some(branch) = branches.get(index)
                        && candidate.mesh
                        && !shown(branches).contains(&index)
                    {
                        self.beyond(&branch.path);
                    }
                }
            }
            // The rule that sets it says so.
            TraceStep::Mark { .. } => {}
            TraceStep::Route { destination, via, interface, table } => {
                let via = via.map(|v| format!(" via {v}")).unwrap_or_default();
                let table =
                    if *table == 254 { String::new() } else { format!(", table {table:#x}") };
                self.step("route", &format!("{destination}{via} by {interface}{table}"));
            }
            TraceStep::Neighbour { address, mac, state } => {
                let text = match mac {
                    Some(mac) => format!("{address} is {mac} ({state})"),
                    None if state == "none" => format!("{address} not asked for yet"),
                    None => format!("{address} {state}"),
                };
                self.step("neighbour", &text);
            }
            TraceStep::Port { bridge, port } => {
                self.step("bridge", &format!("{bridge}, out by port {}", counters(port)));
            }
            TraceStep::Tunnel { device, vni, port, local, remote, mac } => {
                self.step("tunnel", &format!("VXLAN {vni} from {local} to {remote}, UDP {port}"));
                self.step("", &format!("forwarding entry {mac} by {}", counters(device)));
            }
            TraceStep::Socket { address, port } => {
                let address = std::net::SocketAddr::new(*address, *port);
                self.step("socket", &format!("listens on {address}"));
            }
            TraceStep::Connections { count } => {
                let word = if *count == 1 { "connection" } else { "connections" };
                self.step("tracked", &format!("{count} {word} like this"));
            }
            TraceStep::Reply { via, interface, table } => {
                let via = via.map(|v| format!("via {v} ")).unwrap_or_default();
                let table =
                    if *table == 254 { String::new() } else { format!(", table {table:#x}") };
                self.step("answers", &format!("go back {via}by {interface}{table}"));
            }
            TraceStep::Finding { text, .. } => {
                let label = pad("✗ wrong");
                self.wrapped(&self.paint.bad(&label), text);
            }
            TraceStep::Remark { text } => self.step("note", text),
        }
    }

    /// One of several addresses, and how its branch ends.
    fn choice(&mut self, label: &str, candidate: &TraceCandidate, branch: Option<&TraceBranch>) {
        let who = match &candidate.task {
            Some(task) => task,
            None if candidate.mesh => "routing mesh",
            None => "nobody known",
        };
        let place = match &candidate.node {
            None => "here".to_owned(),
            Some(node) => match &node.name {
                Some(name) => format!("on {name}"),
                None => format!("on {}", node.address),
            },
        };
        let turns = match candidate.turns {
            1 => String::new(),
            n => format!(", {n} turns of each round"),
        };
        let open = match candidate.connections {
            0 => String::new(),
            1 => ", 1 connection".to_owned(),
            n => format!(", {n} connections"),
        };
        let sign = match branch.map(|b| good(&b.path)) {
            Some(true) => self.paint.good("✓"),
            Some(false) => self.paint.bad("✗"),
            None => " ".to_owned(),
        };
        let address = candidate.address.to_string();
        self.step(label, &format!("{sign} {address:<15} {place:<12} {who}{turns}{open}"));
        // Why, where it is not shown whole below.
        if let Some(verdict) = branch.and_then(|b| b.path.verdict.as_ref())
            && !verdict.outcome.is_good()
        {
            self.step("", &format!("  {}: {}", outcome(verdict.outcome), verdict.text));
        }
    }

    /// Among whom the routing mesh chooses, whose part of the way is not shown whole.
    fn beyond(&mut self, path: &TracePath) {
        let choice = path.hops.iter().flat_map(|hop| &hop.steps).find_map(|step| match step {
            TraceStep::Choice { candidates, .. } => Some(candidates),
            _ => None,
        });
        for (index, candidate) in choice.into_iter().flatten().enumerate() {
            self.choice("", candidate, path.branches.get(index));
        }
        if let (None, Some(verdict)) = (choice, path.verdict.as_ref())
            && verdict.outcome.is_good()
        {
            self.step("", &format!("  {}", verdict.text));
        }
    }

    fn step(&mut self, label: &str, text: &str) {
        let label = pad(label);
        self.wrapped(&label, text);
    }

    fn verdict(&mut self, verdict: &TraceVerdict, prefix: &str) {
        let good = verdict.outcome.is_good();
        let word = format!("{} {}", if good { "✓" } else { "✗" }, outcome(verdict.outcome));
        let word = if good { self.paint.good(&word) } else { self.paint.bad(&word) };
        let at = if good || verdict.at.is_empty() {
            String::new()
        } else {
            format!(" at {}", verdict.at)
        };
        self.flow(&format!("{prefix}{word}{at}: {}", verdict.text), 2, String::new());
    }

    /// Text behind a label, over as many lines as it takes.
    fn wrapped(&mut self, label: &str, text: &str) {
        self.flow(text, INDENT + LABEL, label.to_owned());
    }

    fn flow(&mut self, text: &str, indent: usize, first: String) {
        let mut line = first.clone();
        let mut used = if first.is_empty() { 0 } else { indent };
        // Runs of blanks are columns and stay.
        for (n, word) in text.split(' ').enumerate() {
            let length = visible(word);
            if n > 0 && used + 1 + length > WIDTH && !word.is_empty() {
                self.line(&line);
                line = " ".repeat(indent);
                used = indent;
            } else if n > 0 {
                line.push(' ');
                used += 1;
            }
            line.push_str(word);
            used += length;
        }
        self.line(&line);
    }
}

/// Which branches are shown whole: the first that fails, for that is what is looked for. Where none does,
/// the first, and the one into the routing mesh, whose way is another.
fn shown(branches: &[TraceBranch]) -> Vec<usize> {
    if let Some(failing) = branches.iter().position(|b| !good(&b.path)) {
        return vec![failing];
    }
    let first = branches.iter().position(|b| !b.candidate.mesh);
    let mesh = branches.iter().position(|b| b.candidate.mesh);
    first.into_iter().chain(mesh).collect()
}

fn good(path: &TracePath) -> bool {
    path.verdict.as_ref().is_none_or(|v| v.outcome.is_good())
        && path.branches.iter().all(|b| good(&b.path))
}

fn whose(candidate: &TraceCandidate) -> String {
    match &candidate.task {
        Some(task) => format!("{} ({task})", candidate.address),
        None if candidate.mesh => format!("{} (routing mesh)", candidate.address),
        None => candidate.address.to_string(),
    }
}

fn outcome(outcome: TraceOutcome) -> &'static str {
    match outcome {
        TraceOutcome::Delivered => "arrives",
        TraceOutcome::Remote => "handed on",
        TraceOutcome::Leaves => "leaves",
        TraceOutcome::Mixed => "arrives only sometimes",
        TraceOutcome::Astray => "goes astray",
        TraceOutcome::Refused => "refused",
        TraceOutcome::Dropped => "dropped",
        TraceOutcome::Unresolved => "goes nowhere",
    }
}

fn counters(interface: &TraceInterface) -> String {
    let drops = match interface.dropped {
        0 => String::new(),
        n => format!(", {n} dropped"),
    };
    let down = if interface.up { "" } else { ", DOWN" };
    format!("{} ({} in, {} out{drops}{down})", interface.name, interface.received, interface.sent)
}

fn pad(label: &str) -> String {
    let fill = LABEL.saturating_sub(label.chars().count());
    format!("{}{label}{}", " ".repeat(INDENT), " ".repeat(fill))
}

/// Characters that are seen: escapes are not.
fn visible(text: &str) -> usize {
    let mut count = 0;
    let mut escape = false;
    for c in text.chars() {
        match c {
            '\x1b' => escape = true,
            'm' if escape => escape = false,
            _ if !escape => count += 1,
            _ => {}
        }
    }
    count
}

fn shorten(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    let kept: String = text.chars().take(width.saturating_sub(1)).collect();
    format!("{kept}…")
}
