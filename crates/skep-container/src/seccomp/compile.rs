//! A seccomp section of a spec as a classic BPF program.
//!
//! Per architecture the system call numbers are cut into ranges that share an outcome, found by
//! binary search, so that a call costs about eight comparisons whatever the profile's length. Rules
//! with argument conditions are ranges of one number.

use std::collections::BTreeMap;

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction, LinuxSeccompArg, LinuxSeccompOperator, LinuxSyscall,
};
use skep_sys::seccomp::Instruction;

use super::syscalls;

/// A profile uses something that cannot be compiled.
#[derive(Debug, thiserror::Error)]
pub enum CompileError {
    #[error("seccomp action {0:?} is not supported")]
    Action(LinuxSeccompAction),
    #[error("seccomp argument index {0} is above 5")]
    ArgumentIndex(usize),
    #[error("seccomp profile compiles to {0} instructions, more than the kernel takes")]
    TooLong(usize),
    #[error("seccomp is not supported on this architecture")]
    Architecture,
}

// Classic BPF operations (linux/bpf_common.h).
const LOAD: u16 = 0x20;
const AND: u16 = 0x54;
const JUMP: u16 = 0x05;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_GREATER: u16 = 0x25;
const JUMP_AT_LEAST: u16 = 0x35;
const RETURN: u16 = 0x06;

// Offsets into `struct seccomp_data`.
const NUMBER: u32 = 0;
const ARCHITECTURE: u32 = 4;
const ARGUMENTS: u32 = 16;

const KILL_PROCESS: u32 = 0x8000_0000;
/// `BPF_MAXINSNS`.
const MAX_LEN: usize = 4096;

/// One architecture's audit number and table.
struct Table {
    audit: u32,
    numbers: &'static [(&'static str, u32)],
}

const X86_64: Table = Table { audit: 0xc000_003e, numbers: syscalls::X86_64 };
const X86: Table = Table { audit: 0x4000_0003, numbers: syscalls::X86 };
const AARCH64: Table = Table { audit: 0xc000_00b7, numbers: syscalls::AARCH64 };

impl Table {
    fn number(&self, name: &str) -> Option<u32> {
        let at = self.numbers.binary_search_by_key(&name, |&(n, _)| n).ok()?;
        Some(self.numbers[at].1)
    }
}

/// What happens on one system call.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Outcome {
    Always(u32),
    /// The first rule whose conditions all hold decides, else the default.
    When(Vec<(Vec<LinuxSeccompArg>, u32)>),
}

/// Compiles for this machine and its 32-bit sibling. Names that an architecture does not have are
/// skipped (Docker's lists name all architectures'). Calls by an architecture that the profile does
/// not list end the process.
pub fn compile(seccomp: &LinuxSeccomp) -> Result<Vec<Instruction>, CompileError> {
    let default = action(seccomp.default_action(), seccomp.default_errno_ret())?;
    let native = match std::env::consts::ARCH {
        "x86_64" => X86_64,
        "aarch64" => AARCH64,
        _ => return Err(CompileError::Architecture),
    };
    let mut tables = vec![native];
    let listed = |arch| seccomp.architectures().as_ref().is_some_and(|a| a.contains(&arch));
    if cfg!(target_arch = "x86_64") && listed(Arch::ScmpArchX86) {
        tables.push(X86);
    }
    let mut program = vec![load(ARCHITECTURE)];
    for table in tables {
        let outcomes = outcomes(&table, seccomp.syscalls().as_deref().unwrap_or(&[]), default)?;
        let section = section(&outcomes, default)?;
        // Another architecture: past the section.
        program.push(jump_if(JUMP_EQUAL, table.audit, 1, 0));
        program.push(jump(section.len()));
        program.extend(section);
    }
    program.push(ret(KILL_PROCESS));
    if program.len() > MAX_LEN {
        return Err(CompileError::TooLong(program.len()));
    }
    Ok(program)
}

fn outcomes(
    table: &Table,
    rules: &[LinuxSyscall],
    default: u32,
) -> Result<BTreeMap<u32, Outcome>, CompileError> {
    let mut outcomes = BTreeMap::new();
    for rule in rules {
        let action = action(rule.action(), rule.errno_ret())?;
        let args = rule.args().as_deref().unwrap_or(&[]);
        for number in rule.names().iter().filter_map(|name| table.number(name)) {
            match outcomes.entry(number).or_insert_with(|| Outcome::When(Vec::new())) {
                // A rule without conditions settles it, whatever comes with conditions.
                Outcome::Always(_) => {}
                outcome if args.is_empty() => *outcome = Outcome::Always(action),
                Outcome::When(list) => list.push((args.to_vec(), action)),
            }
        }
    }
    outcomes.retain(|_, outcome| *outcome != Outcome::Always(default));
    Ok(outcomes)
}

/// The code of one architecture: every path returns.
fn section(
    outcomes: &BTreeMap<u32, Outcome>,
    default: u32,
) -> Result<Vec<Instruction>, CompileError> {
    let fallback = Outcome::Always(default);
    // Ranges as (first number, outcome); each reaches up to the next one's first number.
    let mut ranges: Vec<(u32, &Outcome)> = vec![(0, &fallback)];
    let mut push = |start: u32, outcome| match ranges.last_mut() {
        Some(last) if last.0 == start => last.1 = outcome,
        Some(last) if last.1 == outcome => {}
        _ => ranges.push((start, outcome)),
    };
    let mut next = 0;
    for (&number, outcome) in outcomes {
        if number > next {
            push(next, &fallback);
        }
        push(number, outcome);
        next = number + 1;
    }
    push(next, &fallback);
    let mut code = vec![load(NUMBER)];
    code.extend(search(&ranges, default)?);
    Ok(code)
}

fn search(ranges: &[(u32, &Outcome)], default: u32) -> Result<Vec<Instruction>, CompileError> {
    if let [(_, outcome)] = ranges {
        return match outcome {
            Outcome::Always(action) => Ok(vec![ret(*action)]),
            Outcome::When(rules) => conditional(rules, default),
        };
    }
    let (low, high) = ranges.split_at(ranges.len() / 2);
    let low_code = search(low, default)?;
    // Conditional jumps reach 255 instructions only, the plain one any distance.
    let mut code = vec![jump_if(JUMP_AT_LEAST, high[0].0, 0, 1), jump(low_code.len())];
    code.extend(low_code);
    code.extend(search(high, default)?);
    Ok(code)
}

fn conditional(
    rules: &[(Vec<LinuxSeccompArg>, u32)],
    default: u32,
) -> Result<Vec<Instruction>, CompileError> {
    let mut code = Vec::new();
    for (args, action) in rules {
        let checks = args.iter().map(check).collect::<Result<Vec<_>, _>>()?;
        // A failed check jumps past the rule's return.
        let mut rest: usize = checks.iter().map(Vec::len).sum::<usize>() + 1;
        for check in checks {
            for (at, step) in check.iter().enumerate() {
                rest -= 1;
                let resolve = |to: Target| match to {
                    Target::Next => 0,
                    Target::Pass => u8::try_from(check.len() - at - 1).unwrap_or(u8::MAX),
                    Target::Fail => u8::try_from(rest).unwrap_or(u8::MAX),
                };
                code.push(match *step {
                    Step::Plain(instruction) => instruction,
                    Step::Test(op, value, yes, no) => jump_if(op, value, resolve(yes), resolve(no)),
                });
            }
        }
        code.push(ret(*action));
    }
    code.push(ret(default));
    Ok(code)
}

#[derive(Clone, Copy)]
enum Target {
    Next,
    /// The end of this check: it holds.
    Pass,
    /// The next rule.
    Fail,
}

#[derive(Clone, Copy)]
enum Step {
    Plain(Instruction),
    Test(u16, u32, Target, Target),
}

/// One argument's comparison, high word first (arguments have 64 bits, BPF 32).
fn check(arg: &LinuxSeccompArg) -> Result<Vec<Step>, CompileError> {
    use LinuxSeccompOperator as Op;
    use Target::{Fail, Next, Pass};
    let index = u32::try_from(arg.index())
        .ok()
        .filter(|&i| i < 6)
        .ok_or(CompileError::ArgumentIndex(arg.index()))?;
    // Little endian, as both architectures are.
    let low = Step::Plain(load(ARGUMENTS + 8 * index));
    let high = Step::Plain(load(ARGUMENTS + 8 * index + 4));
    let words = |value: u64| ((value >> 32) as u32, (value & 0xffff_ffff) as u32);
    let (h, l) = words(arg.value());
    Ok(match arg.op() {
        Op::ScmpCmpEq => vec![
            high,
            Step::Test(JUMP_EQUAL, h, Next, Fail),
            low,
            Step::Test(JUMP_EQUAL, l, Next, Fail),
        ],
        Op::ScmpCmpNe => vec![
            high,
            Step::Test(JUMP_EQUAL, h, Next, Pass),
            low,
            Step::Test(JUMP_EQUAL, l, Fail, Next),
        ],
        Op::ScmpCmpGt => ordered((high, low), (h, l), JUMP_GREATER, Pass, Fail, Next, Fail),
        Op::ScmpCmpGe => ordered((high, low), (h, l), JUMP_AT_LEAST, Pass, Fail, Next, Fail),
        Op::ScmpCmpLt => ordered((high, low), (h, l), JUMP_AT_LEAST, Fail, Pass, Fail, Next),
        Op::ScmpCmpLe => ordered((high, low), (h, l), JUMP_GREATER, Fail, Pass, Fail, Next),
        Op::ScmpCmpMaskedEq => {
            let (want_h, want_l) = words(arg.value_two().unwrap_or(0));
            vec![
                high,
                Step::Plain(Instruction { code: AND, jump_true: 0, jump_false: 0, value: h }),
                Step::Test(JUMP_EQUAL, want_h, Next, Fail),
                low,
                Step::Plain(Instruction { code: AND, jump_true: 0, jump_false: 0, value: l }),
                Step::Test(JUMP_EQUAL, want_l, Next, Fail),
            ]
        }
    })
}

/// A comparison by order: the high word decides if it differs, else the low word does.
fn ordered(
    (high, low): (Step, Step),
    (h, l): (u32, u32),
    low_op: u16,
    if_high_above: Target,
    if_high_below: Target,
    low_yes: Target,
    low_no: Target,
) -> Vec<Step> {
    vec![
        high,
        Step::Test(JUMP_GREATER, h, if_high_above, Target::Next),
        Step::Test(JUMP_EQUAL, h, Target::Next, if_high_below),
        low,
        Step::Test(low_op, l, low_yes, low_no),
    ]
}

fn action(action: LinuxSeccompAction, errno: Option<u32>) -> Result<u32, CompileError> {
    use LinuxSeccompAction as A;
    // The kernel takes 16 bits of data; EPERM is the specification's default.
    let data = errno.unwrap_or(nix::libc::EPERM as u32) & 0xffff;
    Ok(match action {
        A::ScmpActAllow => 0x7fff_0000,
        A::ScmpActErrno => 0x0005_0000 | data,
        A::ScmpActKill | A::ScmpActKillThread => 0,
        A::ScmpActKillProcess => KILL_PROCESS,
        A::ScmpActTrap => 0x0003_0000,
        A::ScmpActTrace => 0x7ff0_0000 | data,
        A::ScmpActLog => 0x7ffc_0000,
        other => return Err(CompileError::Action(other)),
    })
}

fn load(offset: u32) -> Instruction {
    Instruction { code: LOAD, jump_true: 0, jump_false: 0, value: offset }
}

fn ret(value: u32) -> Instruction {
    Instruction { code: RETURN, jump_true: 0, jump_false: 0, value }
}

fn jump(over: usize) -> Instruction {
    // Programs are at most 4096 long.
    Instruction {
        code: JUMP,
        jump_true: 0,
        jump_false: 0,
        value: u32::try_from(over).unwrap_or(u32::MAX),
    }
}

fn jump_if(op: u16, value: u32, jump_true: u8, jump_false: u8) -> Instruction {
    Instruction { code: op, jump_true, jump_false, value }
}

#[cfg(test)]
mod tests;
