//! Device rules where only version 2 is mounted: an eBPF program on the group.
//!
//! Version 1 has a devices controller, which libcontainer sets. Version 2 has none, and without a
//! program every device node a container can make (root has CAP_MKNOD by Docker's default) would be
//! usable, the host's disks included.

use std::fs::File;
use std::os::fd::AsFd;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};
use skep_sys::bpf::{self, Instruction};

use super::CgroupError;
use super::group::Cgroup;
use super::layout::Version;

impl Cgroup {
    /// Makes `rules` (the last match decides; nothing is allowed without one) the group's rules.
    /// Does nothing where the version 1 controller does the job.
    pub fn restrict_devices(&self, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
        match self.controller("devices") {
            Some((Version::V2, path)) => attach(&path, rules),
            Some((Version::V1, _)) => Ok(()),
            None => Err(CgroupError::NoController { controller: "devices" }),
        }
    }
}

/// Attaches a program with these rules to a version 2 group's directory.
pub fn attach(path: &std::path::Path, rules: &[LinuxDeviceCgroup]) -> Result<(), CgroupError> {
    let failed = |source| CgroupError::Devices { path: path.to_owned(), source };
    let program = bpf::load_device_program(&compile(rules)).map_err(failed)?;
    let group = File::open(path).map_err(failed)?;
    bpf::attach_device_program(group.as_fd(), program.as_fd()).map_err(failed)
}

// Registers: the context comes in r1; we keep kind, access, major and minor in r2 to r5.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const SCRATCH: u8 = 1;

// Operations of eBPF (linux/bpf_common.h, linux/bpf.h).
const LOAD_WORD: u8 = 0x61;
const AND_IMMEDIATE: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const MOVE_REGISTER: u8 = 0xbc;
const MOVE_IMMEDIATE: u8 = 0xb7;
const JUMP_NOT_EQUAL_IMMEDIATE: u8 = 0x56;
const JUMP_NOT_EQUAL_REGISTER: u8 = 0x5e;
const EXIT: u8 = 0x95;

/// `BPF_DEVCG_DEV_BLOCK` and `BPF_DEVCG_DEV_CHAR`, `BPF_DEVCG_ACC_*`.
const BLOCK: i32 = 1;
const CHAR: i32 = 2;
const MKNOD: i32 = 1;
const READ: i32 = 2;
const WRITE: i32 = 4;

fn op(code: u8, dst: u8, src: u8, offset: i16, immediate: i32) -> Instruction {
    Instruction { code, registers: (src << 4) | dst, offset, immediate }
}

/// The rules as a program that returns 1 for allowed: last rule first, the first match decides.
fn compile(rules: &[LinuxDeviceCgroup]) -> Vec<Instruction> {
    let mut program = vec![
        op(LOAD_WORD, KIND, CONTEXT, 0, 0),
        op(MOVE_REGISTER, ACCESS, KIND, 0, 0),
        op(AND_IMMEDIATE, KIND, 0, 0, 0xffff),
        op(SHIFT_RIGHT, ACCESS, 0, 0, 16),
        op(LOAD_WORD, MAJOR, CONTEXT, 4, 0),
        op(LOAD_WORD, MINOR, CONTEXT, 8, 0),
    ];
    for rule in rules.iter().rev() {
        let code = compile_rule(rule);
        let always = !code.iter().any(is_jump);
        program.extend(code);
        if always {
            // The verifier refuses what cannot be reached, and that would be all the rest.
            return program;
        }
    }
    program.extend([op(MOVE_IMMEDIATE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)]);
    program
}

fn compile_rule(rule: &LinuxDeviceCgroup) -> Vec<Instruction> {
    // Jumps go to the end of the rule; their offsets are filled in once its length is known.
    let mut code = Vec::new();
    match rule.typ() {
        Some(LinuxDeviceType::B) => code.push(op(JUMP_NOT_EQUAL_IMMEDIATE, KIND, 0, 0, BLOCK)),
        Some(LinuxDeviceType::C | LinuxDeviceType::U) => {
            code.push(op(JUMP_NOT_EQUAL_IMMEDIATE, KIND, 0, 0, CHAR));
        }
        _ => {}
    }
    let access = rule.access().as_deref().unwrap_or("rwm").chars().fold(0, |bits, c| {
        bits | match c {
            'r' => READ,
            'w' => WRITE,
            'm' => MKNOD,
            _ => 0,
        }
    });
    if access != READ | WRITE | MKNOD {
        // The rule matches if it covers all that is wanted.
        code.push(op(MOVE_REGISTER, SCRATCH, ACCESS, 0, 0));
        code.push(op(AND_IMMEDIATE, SCRATCH, 0, 0, access));
        code.push(op(JUMP_NOT_EQUAL_REGISTER, SCRATCH, ACCESS, 0, 0));
    }
    for (register, number) in [(MAJOR, rule.major()), (MINOR, rule.minor())] {
        // A negative number is a wildcard, like none.
        if let Some(number) = number.and_then(|n| i32::try_from(n).ok()).filter(|&n| n >= 0) {
            code.push(op(JUMP_NOT_EQUAL_IMMEDIATE, register, 0, 0, number));
        }
    }
    code.push(op(MOVE_IMMEDIATE, 0, 0, 0, i32::from(rule.allow())));
    code.push(op(EXIT, 0, 0, 0, 0));
    let len = code.len();
    for (at, instruction) in code.iter_mut().enumerate() {
        if is_jump(instruction) {
            instruction.offset = i16::try_from(len - at - 1).unwrap_or(i16::MAX);
        }
    }
    code
}

fn is_jump(instruction: &Instruction) -> bool {
    matches!(instruction.code, JUMP_NOT_EQUAL_IMMEDIATE | JUMP_NOT_EQUAL_REGISTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::LinuxDeviceCgroupBuilder;

    #[test]
    fn later_rules_come_first_and_jump_over_themselves() {
        let deny =
            LinuxDeviceCgroupBuilder::default().allow(false).access("rwm").build().expect("rule");
        let null = LinuxDeviceCgroupBuilder::default()
            .allow(true)
            .typ(LinuxDeviceType::C)
            .major(1)
            .minor(3)
            .access("rw")
            .build()
            .expect("rule");
        let program = compile(&[deny, null]);
        assert_eq!(program[6], op(JUMP_NOT_EQUAL_IMMEDIATE, KIND, 0, 7, CHAR));
        assert_eq!(program[12], op(MOVE_IMMEDIATE, 0, 0, 0, 1));
        assert_eq!(
            program[14..],
            [op(MOVE_IMMEDIATE, 0, 0, 0, 0), op(EXIT, 0, 0, 0, 0)],
            "nothing after a rule for all"
        );
    }
}
