//! What a container may not do.

use oci_spec::runtime::UserBuilder;
use skep_container::spec;

use crate::fixture::{Bed, Options};

#[tokio::test]
async fn capabilities_and_filter_are_dockers() {
    let bed = Bed::new();
    let (_, out, _) =
        bed.run(Options::sh("grep -E 'Cap|NoNewPrivs|Seccomp:' /proc/self/status")).await;
    for line in [
        "CapInh:\t0000000000000000",
        "CapPrm:\t00000000a80425fb",
        "CapEff:\t00000000a80425fb",
        "CapBnd:\t00000000a80425fb",
        "CapAmb:\t0000000000000000",
        "NoNewPrivs:\t0",
        "Seccomp:\t2",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
}

#[tokio::test]
async fn forbidden_calls_fail() {
    let bed = Bed::new();
    // All capabilities, so that only the filter of the default capabilities stands in the way.
    let options = Options {
        adapt: Box::new(|spec| {
            let all = spec::process_capabilities(&spec::all_capabilities()).expect("capabilities");
            let mut process = spec.process().clone().expect("process");
            process.set_capabilities(Some(all));
            spec.set_process(Some(process));
        }),
        ..Options::sh(
            "mount -t tmpfs x /tmp; echo mount $?; unshare -u true; echo unshare $?; hostname other; echo hostname $?; chroot / true; echo chroot $?",
        )
    };
    let (_, out, err) = bed.run(options).await;
    assert!(
        out.contains("mount 1")
            && out.contains("unshare 1")
            && out.contains("hostname 1")
            && out.contains("chroot 0"),
        "{out} {err}"
    );
    assert!(err.contains("Operation not permitted") || err.contains("permission denied"), "{err}");
}

#[tokio::test]
async fn without_a_profile_the_same_calls_work() {
    let bed = Bed::new();
    let options = Options {
        adapt: Box::new(|spec| {
            let all = spec::process_capabilities(&spec::all_capabilities()).expect("capabilities");
            let mut process = spec.process().clone().expect("process");
            process.set_capabilities(Some(all));
            let mut linux = spec.linux().clone().expect("linux");
            linux.set_seccomp(None);
            spec.set_process(Some(process)).set_linux(Some(linux));
        }),
        ..Options::sh("mount -t tmpfs x /tmp; echo mount $?; grep Seccomp: /proc/self/status")
    };
    let (_, out, err) = bed.run(options).await;
    assert!(out.contains("mount 0") && out.contains("Seccomp:\t0"), "{out} {err}");
}

#[tokio::test]
async fn no_new_privileges_holds_with_filter_and_user() {
    let bed = Bed::new();
    let options = Options {
        adapt: Box::new(|spec| {
            let mut process = spec.process().clone().expect("process");
            let user = UserBuilder::default()
                .uid(33u32)
                .gid(33u32)
                .additional_gids(vec![50u32])
                .build()
                .expect("user");
            process.set_no_new_privileges(Some(true)).set_user(user);
            spec.set_process(Some(process));
        }),
        ..Options::sh(
            "id -u; id -G; grep -E 'NoNewPrivs|Seccomp:|CapEff|CapBnd' /proc/self/status; echo x > /dev/stdout",
        )
    };
    let (status, out, err) = bed.run(options).await;
    assert_eq!(status.code, 0, "{err}");
    assert!(out.starts_with("33\n33 50\n"), "{out}");
    for line in [
        "NoNewPrivs:\t1",
        "Seccomp:\t2",
        "CapEff:\t0000000000000000",
        "CapBnd:\t00000000a80425fb",
        "x",
    ] {
        assert!(out.contains(line), "{line} in {out}");
    }
}

#[tokio::test]
async fn host_devices_and_masked_paths_are_out_of_reach() {
    let bed = Bed::new();
    let script = "mknod /tmp/d b 8 0; echo mknod $?; head -c 1 /tmp/d; echo read $?; head -c 4 /dev/zero | wc -c; \
                  cat /proc/kcore | wc -c; echo 1 > /proc/sys/kernel/domainname; echo sys $?; touch /sys/x; echo touch $?; ls /sys/firmware | wc -l";
    let (_, out, err) = bed.run(Options::sh(script)).await;
    assert!(
        out.contains("mknod 0") && out.contains("read 1") && out.contains("4\n0\n"),
        "{out} {err}"
    );
    assert!(out.contains("sys 1") || out.contains("sys 2"), "{out}");
    assert!(out.contains("touch 1\n0\n"), "{out}");
}

#[tokio::test]
async fn limits_are_set_and_what_cannot_be_is_told() {
    let bed = Bed::new();
    let options = Options {
        adapt: Box::new(|spec| {
            let mut process = spec.process().clone().expect("process");
            let limits = [("nofile", 100, 200), ("core", 0, 0)];
            let mut limits: Vec<_> =
                limits.iter().map(|&(n, s, h)| spec::rlimit(n, s, h).expect("limit")).collect();
            limits.push(spec::rlimit("nproc", -1, -1).expect("limit"));
            process.set_rlimits(Some(limits)).set_oom_score_adj(Some(-500));
            spec.set_process(Some(process));
        }),
        ..Options::sh("ulimit -Sn; ulimit -Hn; ulimit -c")
    };
    let handle = bed.create(options).await;
    let attached = handle.attach(skep_container::AttachOptions::ALL).await.expect("attach");
    handle.start().await.expect("start");
    assert_eq!(crate::fixture::collect(attached.output).await.0, "100\n200\n0\n");
    let warnings = handle.state().await.expect("state").warnings;
    let capable = skep_sys::caps::in_bounding(24) == Some(true);
    assert_eq!(warnings.iter().any(|w| w.contains("oom_score_adj")), !capable, "{warnings:?}");
    handle.delete().await.expect("delete");
}

/// The program for hosts with version 2 only, on a group of the version 2 hierarchy beside.
#[tokio::test]
async fn the_device_program_decides_like_the_rules() {
    use std::os::unix::process::CommandExt;
    let layout = skep_container::cgroup::Layout::host();
    let Some(unified) = layout.unified() else { panic!("no version 2 hierarchy to test on") };
    let group = unified.join(format!("skeptest-devices-{}", std::process::id()));
    std::fs::create_dir(&group).expect("group");
    skep_container::cgroup::restrict_devices_at(&group, &spec::default_device_rules())
        .expect("program");
    let script = format!(
        "echo $$ > {}/cgroup.procs; exec 3</dev/zero && echo zero; (exec 3</dev/loop-control || exec 3</dev/kmsg || exec 3</dev/fuse) 2>/dev/null || echo denied",
        group.display()
    );
    let output = std::process::Command::new("/bin/sh")
        .arg0("sh")
        .args(["-c", &script])
        .output()
        .expect("sh");
    std::fs::remove_dir(&group).expect("remove");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "zero\ndenied\n", "{output:?}");
}

/// Limits are the host's to set, and the hierarchy of the host's services is not the container's.
#[tokio::test]
async fn control_groups_cannot_be_written() {
    let bed = Bed::new();
    let (_, out, err) = bed
        .run(Options::sh(
            "for d in /sys/fs/cgroup /sys/fs/cgroup/*/; do
               test -d $d || continue
               n=$((n+1)); mkdir $d/mine 2>/dev/null && echo made in $d
               for f in $d/cgroup.procs $d/notify_on_release $d/memory.limit_in_bytes; do
                 test -e $f && (echo 1 >$f) 2>/dev/null && echo wrote $f
               done
             done
             test $n -gt 1 || grep -q cgroup2 /proc/mounts && echo looked; ls /sys/fs/cgroup/*/ >/dev/null && echo listed",
        ))
        .await;
    assert_eq!(out, "looked\nlisted\n", "{err}");
}
