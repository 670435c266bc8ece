//! Where this host mounts its control group hierarchies.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use nix::unistd::{AccessFlags, access};
use serde::{Deserialize, Serialize};
use skep_sys::mountinfo::Mount;

/// Which interface a controller has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V1,
    V2,
}

/// Mount points by controller.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layout {
    /// The version 2 hierarchy, if mounted.
    unified: Option<PathBuf>,
    /// Controllers that the version 2 hierarchy has, by their version 1 names.
    available: Vec<String>,
    /// Version 1 hierarchies by controller; named ones as `name=…`.
    controllers: BTreeMap<String, PathBuf>,
}

/// Once it was looked at, or told.
static HOST: OnceLock<Arc<Layout>> = OnceLock::new();

impl Layout {
    /// Tells what this host's layout is, which spares a process to look: the list of mounts has a line for each of the
    /// other containers' network namespaces. Nothing changes where it is known already.
    pub fn is_told(self) {
        let _ = HOST.set(Arc::new(self));
    }

    /// This host's layout. Read once: hierarchies are not remounted while containers run.
    pub fn host() -> Arc<Layout> {
        HOST.get_or_init(|| {
            // Without /proc nothing of a container works and that is reported elsewhere; here it
            // looks like a host without control groups.
            let mounts = skep_sys::mountinfo::mounts().unwrap_or_default();
            let mut layout = Layout::of(&mounts);
            if let Some(point) = &layout.unified {
                let names =
                    std::fs::read_to_string(point.join("cgroup.controllers")).unwrap_or_default();
                layout.set_available(&names);
            }
            Arc::new(layout)
        })
        .clone()
    }

    /// The layout that these mounts make.
    pub fn of(mounts: &[Mount]) -> Layout {
        let mut layout = Layout::default();
        // Bind mounts of a part of a hierarchy (into containers) are not ours to use.
        for mount in mounts.iter().filter(|mount| mount.root == Path::new("/")) {
            match mount.kind.as_str() {
                "cgroup2" => _ = layout.unified.get_or_insert_with(|| mount.point.clone()),
                "cgroup" => {
                    for option in &mount.options {
                        let point = layout.controllers.entry(option.clone());
                        point.or_insert_with(|| mount.point.clone());
                    }
                }
                _ => {}
            }
        }
        layout
    }

    #[cfg(test)]
    pub fn parse(mountinfo: &str) -> Layout {
        Self::of(&skep_sys::mountinfo::parse(mountinfo.as_bytes()))
    }

    /// Takes the content of the version 2 root's `cgroup.controllers`.
    pub(super) fn set_available(&mut self, names: &str) {
        self.available = ["devices", "freezer"].map(str::to_owned).to_vec();
        for name in names.split_whitespace() {
            match name {
                "io" => self.available.push("blkio".to_owned()),
                "cpu" => self.available.extend(["cpu", "cpuacct"].map(str::to_owned)),
                other => self.available.push(other.to_owned()),
            }
        }
    }

    /// Whether no version 1 controller is mounted.
    pub fn is_unified(&self) -> bool {
        !self.controllers.keys().any(|name| KNOWN.contains(&name.as_str()))
    }

    /// Where a controller's files are, and which interface they have. Named as in version 1 (`blkio`
    /// is version 2's `io`); devices and freezer are part of version 2 itself.
    pub fn controller(&self, name: &str) -> Option<(Version, &Path)> {
        match self.controllers.get(name) {
            Some(point) => Some((Version::V1, point)),
            None if self.available.iter().any(|a| a == name) => {
                self.unified.as_deref().map(|point| (Version::V2, point))
            }
            None => None,
        }
    }

    /// The version 2 hierarchy.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_deref()
    }

    /// The mount points of all hierarchies that containers join, each once.
    pub fn hierarchies(&self) -> Vec<&Path> {
        let mut points: Vec<&Path> = self
            .controllers
            .iter()
            .filter(|(name, _)| KNOWN.contains(&name.as_str()))
            .map(|(_, point)| point.as_path())
            .chain(self.unified.as_deref())
            .collect();
        points.sort_unstable();
        points.dedup();
        points
    }

    /// Why containers can have no control groups here, and so cannot be started, if that is so.
    pub fn trouble(&self) -> Option<String> {
        let points = self.hierarchies();
        if points.is_empty() {
            return Some("no control groups are mounted: containers cannot be started".to_owned());
        }
        points.into_iter().find_map(|point| {
            let error = access(point, AccessFlags::W_OK).err()?;
            Some(format!(
                "control groups in {} cannot be made ({}): containers cannot be started",
                point.display(),
                error.desc()
            ))
        })
    }

    /// The hierarchies by which a service manager knows a service's processes.
    pub fn of_service_manager(&self) -> Vec<&Path> {
        self.controllers
            .get("name=systemd")
            .map(PathBuf::as_path)
            .into_iter()
            .chain(self.unified())
            .collect()
    }
}

/// Version 1 controllers; other words among the mount options are none.
const KNOWN: &[&str] = &[
    "blkio",
    "cpu",
    "cpuacct",
    "cpuset",
    "devices",
    "freezer",
    "hugetlb",
    "memory",
    "net_cls",
    "net_prio",
    "perf_event",
    "pids",
    "rdma",
    "misc",
];

#[cfg(test)]
mod tests {
    use super::*;

    const HYBRID: &str = "\
30 25 0:26 / /sys/fs/cgroup ro,nosuid shared:9 - tmpfs tmpfs ro,mode=755
31 30 0:27 / /sys/fs/cgroup/unified rw,nosuid shared:10 - cgroup2 cgroup2 rw
32 30 0:28 / /sys/fs/cgroup/systemd rw,nosuid shared:11 - cgroup cgroup rw,xattr,name=systemd
33 30 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,nosuid shared:15 - cgroup cgroup rw,cpu,cpuacct
34 30 0:30 / /sys/fs/cgroup/pids rw,nosuid shared:15 - cgroup cgroup rw,pids
77 30 0:30 /docker/abc /elsewhere/sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
";

    #[test]
    fn hybrid_has_each_controller_where_it_is_mounted() {
        let mut layout = Layout::parse(HYBRID);
        layout.set_available("hugetlb");
        assert!(!layout.is_unified());
        assert_eq!(
            layout.controller("cpuacct"),
            Some((Version::V1, Path::new("/sys/fs/cgroup/cpu,cpuacct")))
        );
        assert_eq!(
            layout.controller("hugetlb"),
            Some((Version::V2, Path::new("/sys/fs/cgroup/unified")))
        );
        assert_eq!(layout.controller("memory"), None, "mounted for another root only");
        assert_eq!(layout.hierarchies().len(), 3);
        assert_eq!(layout.of_service_manager().len(), 2);
    }

    #[test]
    fn what_cannot_be_used_is_told() {
        let told = |point: &str| {
            let line = format!("31 30 0:27 / {point} rw shared:10 - cgroup2 cgroup2 rw\n");
            Layout::parse(&line).trouble()
        };
        let none = Layout::parse("").trouble().unwrap();
        assert!(none.starts_with("no control groups are mounted"), "{none}");
        let temp = tempfile::tempdir().unwrap();
        assert_eq!(told(temp.path().to_str().unwrap()), None);
        // The kernel lets nobody write there.
        let refused = told("/proc/self/map_files/none").unwrap();
        assert!(refused.contains("/proc/self/map_files/none cannot be made ("), "{refused}");
    }

    #[test]
    fn unified_has_them_all_in_one_place() {
        let mut layout = Layout::parse(
            "31 30 0:27 / /sys/fs/cgroup rw shared:10 - cgroup2 cgroup2 rw,nsdelegate\n",
        );
        layout.set_available("cpu io pids\n");
        assert_eq!(layout.controller("blkio"), Some((Version::V2, Path::new("/sys/fs/cgroup"))));
        assert!(layout.is_unified());
        assert_eq!(layout.controller("pids"), Some((Version::V2, Path::new("/sys/fs/cgroup"))));
        assert_eq!(layout.hierarchies(), [Path::new("/sys/fs/cgroup")]);
    }
}
