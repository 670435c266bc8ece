//! The spec as libcontainer gets it: without what [`super::Finish`] does later, and without what this
//! host cannot do (each told as a warning).

use std::path::Path;

use oci_spec::runtime::{LinuxResources, Process, Spec, UserBuilder};
use skep_sys::files::set_kernel;

use super::report::Reporter;
use crate::cgroup::{Layout, Version};

/// Strips a whole spec and makes its root absolute.
pub(super) fn spec(spec: &mut Spec, bundle: &Path, reporter: &Reporter) {
    if let Some(mut root) = spec.root().clone() {
        if root.path().is_relative() {
            let absolute = bundle.join(root.path());
            root.set_path(absolute);
        }
        spec.set_root(Some(root));
    }
    if let Some(mut own) = spec.process().clone() {
        let terminal = own.terminal().unwrap_or(false);
        process(&mut own, terminal, reporter);
        spec.set_process(Some(own));
    }
    if let Some(mut linux) = spec.linux().clone() {
        linux.set_seccomp(None);
        if let Some(mut limits) = linux.resources().clone() {
            resources(&mut limits, reporter);
            linux.set_resources(Some(limits));
        }
        spec.set_linux(Some(linux));
    }
}

/// Strips a process: it stays root with all capabilities until the end of its set-up.
pub(super) fn process(process: &mut Process, terminal: bool, reporter: &Reporter) {
    let mut user = UserBuilder::default().uid(0u32).gid(0u32).build().unwrap_or_default();
    user.set_umask(process.user().umask());
    process
        .set_user(user)
        // The command gets its own from us; without one the runtime would look for the home in the container's
        // files, which may be anything.
        .set_env(Some(vec!["HOME=/".to_owned()]))
        .set_capabilities(None)
        .set_no_new_privileges(None)
        .set_apparmor_profile(None)
        .set_rlimits(None)
        .set_terminal(Some(terminal));
    if let Some(score) = process.oom_score_adj() {
        // Inherited from here on; lowering it needs CAP_SYS_RESOURCE, as does raising it above what
        // a privileged process once set.
        if let Err(e) = set_kernel("/proc/self/oom_score_adj".as_ref(), score.to_string()) {
            reporter.warn(format!("this host does not let us set oom_score_adj to {score}: {e}"));
        }
        process.set_oom_score_adj(None);
    }
}

/// Takes out limits whose files this kernel does not have; libcontainer would fail on them.
fn resources(resources: &mut LinuxResources, reporter: &Reporter) {
    let layout = Layout::host();
    if let Some(mut memory) = *resources.memory() {
        if let Some((Version::V1, dir)) = layout.controller("memory") {
            let lacks = |file: &str| !dir.join(file).exists();
            if memory.swap().is_some() && lacks("memory.memsw.limit_in_bytes") {
                // Docker sets it along with every memory limit, so it is no news to the user.
                memory.set_swap(None);
            }
            if memory.swappiness().is_some() && lacks("memory.swappiness") {
                reporter.warn("this kernel has no memory swappiness; it is ignored".into());
                memory.set_swappiness(None);
            }
        }
        resources.set_memory(Some(memory));
    }
    if let (Some(_), Some((Version::V1, dir))) = (resources.block_io(), layout.controller("blkio"))
    {
        let weight = resources.block_io().as_ref().and_then(|b| b.weight()).is_some();
        if weight && !dir.join("blkio.weight").exists() && !dir.join("blkio.bfq.weight").exists() {
            reporter.warn("this kernel has no block I/O weights; they are ignored".into());
            let mut block_io = resources.block_io().clone().unwrap_or_default();
            block_io.set_weight(None).set_leaf_weight(None).set_weight_device(None);
            resources.set_block_io(Some(block_io));
        }
    }
    if resources.hugepage_limits().as_ref().is_some_and(Vec::is_empty) {
        resources.set_hugepage_limits(None);
    }
    for name in ["cpu", "cpuset", "pids", "memory"] {
        if layout.controller(name).is_none() {
            reporter.warn(format!("this host has no {name} control group; its limits are ignored"));
            match name {
                "cpu" | "cpuset" => resources.set_cpu(None),
                "pids" => resources.set_pids(None),
                _ => resources.set_memory(None),
            };
        }
    }
}
