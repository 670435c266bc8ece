use super::*;
use crate::seccomp::{default_profile, parse_profile};
use crate::spec::default_capabilities;

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

/// Runs a program as the kernel would.
fn run(program: &[Instruction], audit: u32, number: u32, args: [u64; 6]) -> u32 {
    let word = |offset: u32| match offset {
        NUMBER => number,
        ARCHITECTURE => audit,
        offset => {
            let arg = args[((offset - ARGUMENTS) / 8) as usize];
            if offset % 8 == 0 { arg as u32 } else { (arg >> 32) as u32 }
        }
    };
    let (mut at, mut a) = (0usize, 0u32);
    loop {
        let i = program[at];
        at += 1;
        let test = match i.code {
            LOAD => {
                a = word(i.value);
                continue;
            }
            AND => {
                a &= i.value;
                continue;
            }
            JUMP => {
                at += i.value as usize;
                continue;
            }
            RETURN => return i.value,
            JUMP_EQUAL => a == i.value,
            JUMP_GREATER => a > i.value,
            JUMP_AT_LEAST => a >= i.value,
            other => panic!("operation {other:#x}"),
        };
        at += usize::from(if test { i.jump_true } else { i.jump_false });
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn dockers_default_decides_as_it_says() {
    let profile = default_profile(&default_capabilities()).expect("profile");
    let program = compile(&profile).expect("compiles");
    let call =
        |name: &str, args| run(&program, X86_64.audit, X86_64.number(name).expect("known"), args);
    let none = [0; 6];
    assert_eq!(call("read", none), ALLOW);
    assert_eq!(call("mount", none), EPERM);
    assert_eq!(call("keyctl", none), EPERM);
    assert_eq!(call("clone3", none), ENOSYS);
    assert_eq!(call("clone", none), ALLOW);
    assert_eq!(call("clone", [0x1000_0000, 0, 0, 0, 0, 0]), EPERM, "new user namespace");
    assert_eq!(call("socket", [2, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call("socket", [40, 0, 0, 0, 0, 0]), EPERM, "vsock");
    assert_eq!(call("personality", [0x20008, 0, 0, 0, 0, 0]), ALLOW);
    assert_eq!(call("personality", [0x20009, 0, 0, 0, 0, 0]), EPERM);
    assert_eq!(run(&program, X86_64.audit, 0x4000_0000, none), EPERM, "x32");
    assert_eq!(run(&program, X86.audit, X86.number("chown32").expect("known"), none), ALLOW);
    assert_eq!(run(&program, X86.audit, X86.number("mount").expect("known"), none), EPERM);
    assert_eq!(run(&program, AARCH64.audit, 0, none), KILL_PROCESS);
}

/// Every number of the table against the rules read naively.
#[cfg(target_arch = "x86_64")]
#[test]
fn every_call_has_the_rules_outcome() {
    let profile = default_profile(&default_capabilities()).expect("profile");
    let program = compile(&profile).expect("compiles");
    let rules = profile.syscalls().clone().expect("rules");
    for &(name, number) in X86_64.numbers {
        let mine: Vec<_> = rules.iter().filter(|r| r.names().iter().any(|n| n == name)).collect();
        if mine.iter().any(|r| r.args().is_some()) {
            continue;
        }
        let wanted = match mine.first() {
            Some(rule) => action(rule.action(), rule.errno_ret()).expect("action"),
            None => EPERM,
        };
        assert_eq!(run(&program, X86_64.audit, number, [0; 6]), wanted, "{name}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn comparisons_use_all_64_bits() {
    let edge = 0x1_0000_0005_u64;
    let cases: [(&str, [bool; 5]); 6] = [
        // Values: edge-1, edge, edge+1, high word lower, high word higher (low words misleading).
        ("SCMP_CMP_EQ", [false, true, false, false, false]),
        ("SCMP_CMP_NE", [true, false, true, true, true]),
        ("SCMP_CMP_LT", [true, false, false, true, false]),
        ("SCMP_CMP_LE", [true, true, false, true, false]),
        ("SCMP_CMP_GT", [false, false, true, false, true]),
        ("SCMP_CMP_GE", [false, true, true, false, true]),
    ];
    for (op, wanted) in cases {
        let json = format!(
            r#"{{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{{"names":["dup"],"action":"SCMP_ACT_ALLOW",
               "args":[{{"index":2,"value":{edge},"op":"{op}"}}]}}]}}"#
        );
        let program = compile(&parse_profile(&json, &Default::default()).expect("profile"))
            .expect("compiles");
        for (value, wanted) in
            [edge - 1, edge, edge + 1, 0x0_0000_0009, 0x2_0000_0001].into_iter().zip(wanted)
        {
            let got = run(
                &program,
                X86_64.audit,
                X86_64.number("dup").expect("known"),
                [0, 0, value, 0, 0, 0],
            );
            assert_eq!(got == ALLOW, wanted, "{op} {value:#x}");
        }
    }
}
