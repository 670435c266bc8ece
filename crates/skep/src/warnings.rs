//! What `docker info` warns of besides what the engine finds: worked out at each call, nothing is remembered.

use std::path::{Path, PathBuf};

use skep_sys::files::{self, Lack};

/// Less room than this is none: what the swarm's log wants free.
const LEAST_BYTES: u64 = 4 << 20;

/// Below the data root: folders with files that are set aside, and what becomes of what such a file held. The
/// names of images are the image store's to tell, because they hold up a prune.
const OF_DATA: [(&str, &str); 4] = [
    ("", "this host got another id"),
    ("image/images", "what was noted about the image was made anew"),
    (
        "network",
        "this host's networks were taken from the copy beside what runs, and without one only the predefined ones \
         are there",
    ),
    ("swarm/worker", "the tasks of this node were taken from its manager and from what runs"),
];

/// The same below the exec root.
const OF_EXEC: [(&str, &str); 2] = [
    (
        "net",
        "what the network knew of the swarm was taken from the generation before, or heard anew",
    ),
    ("net/sandboxes", "the container's part of the network was made anew"),
];

/// Where this daemon keeps its files.
pub struct Roots {
    pub data: PathBuf,
    pub exec: PathBuf,
}

impl Roots {
    /// All warnings of now. Blocks.
    pub fn warnings(&self) -> Vec<String> {
        let data = "images cannot be pulled, and containers, volumes, networks and the swarm cannot be changed";
        let exec = "no container can be started";
        let mut all = Vec::new();
        all.extend(room("data root", &self.data, data));
        all.extend(room("exec root", &self.exec, exec));
        for (root, folders) in [(&self.data, &OF_DATA[..]), (&self.exec, &OF_EXEC[..])] {
            for (folder, outcome) in folders {
                set_aside(&root.join(folder), outcome, &mut all);
            }
        }
        all
    }
}

fn room(name: &str, root: &Path, stops: &str) -> Option<String> {
    match files::lacks_for_file(root, LEAST_BYTES) {
        Ok(lack) => lack.map(|lack| without_room(name, root, lack, stops)),
        Err(error) => Some(format!(
            "WARNING: cannot ask how much room the {name} {} has: {}",
            root.display(),
            skep_types::errno_text(&error)
        )),
    }
}

fn without_room(name: &str, root: &Path, lack: Lack, stops: &str) -> String {
    let (lacks, cure) = match lack {
        Lack::ReadOnly => (
            "is read-only",
            "The kernel's log (dmesg) may say why; repair it and mount it read-write again",
        ),
        Lack::Space => {
            ("has no space left", "Make room on it, for instance with \"docker system prune\"")
        }
        Lack::Inodes => {
            ("has no inodes left", "Remove files on it, for instance with \"docker system prune\"")
        }
    };
    format!(
        "WARNING: The file system of the {name} {} {lacks}: {stops}, and what waits for it goes on when that is \
         over. {cure}.",
        root.display()
    )
}

fn set_aside(folder: &Path, outcome: &str, all: &mut Vec<String>) {
    match files::set_aside_in(folder) {
        Ok(found) => all.extend(found.iter().map(|kept| {
            format!(
                "WARNING: {} could not be read and was set aside: {outcome}. This warning stays until that file is \
                 moved away or removed.",
                kept.display()
            )
        })),
        Err(error) => all.push(format!(
            "WARNING: cannot look for files that were set aside in {}: {}",
            folder.display(),
            skep_types::errno_text(&error)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_set_aside_is_told_until_it_is_gone() {
        let temp = tempfile::tempdir().unwrap();
        let roots = Roots { data: temp.path().join("data"), exec: temp.path().join("exec") };
        let damaged = [
            "data/engine-id",
            "data/image/images/aa.json",
            "data/network/networks.json",
            "data/swarm/worker/tasks.db",
            "exec/net/running.json",
            "exec/net/sandboxes/bb.json",
        ];
        for file in damaged {
            let path = temp.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, "").unwrap();
        }
        assert_eq!(roots.warnings(), [""; 0]);
        let kept: Vec<PathBuf> =
            damaged.iter().map(|file| files::set_aside(&temp.path().join(file)).unwrap()).collect();
        // A folder in a file's place, and a second time.
        std::fs::create_dir(temp.path().join(damaged[0])).unwrap();
        let second = files::set_aside(&temp.path().join(damaged[0])).unwrap();
        let told = roots.warnings();
        assert_eq!(told.len(), damaged.len() + 1, "{told:#?}");
        for path in kept.iter().chain([&second]) {
            let path = format!("WARNING: {} could not", path.display());
            assert!(told.iter().any(|text| text.starts_with(&path)), "{path}: {told:#?}");
        }
        std::fs::remove_dir(second).unwrap();
        kept.iter().for_each(|path| std::fs::remove_file(path).unwrap());
        assert_eq!(roots.warnings(), [""; 0]);
    }

    #[test]
    fn a_root_without_room_says_what_it_means_and_what_to_do() {
        let path = Path::new("/var/lib/skep");
        for (lack, words) in [
            (Lack::Space, ["has no space left", "docker system prune"]),
            (Lack::Inodes, ["has no inodes left", "docker system prune"]),
            (Lack::ReadOnly, ["is read-only", "mount it read-write"]),
        ] {
            let text = without_room("data root", path, lack, "nothing works");
            for word in words.into_iter().chain(["data root /var/lib/skep", "nothing works"]) {
                assert!(text.contains(word), "{word}: {text}");
            }
        }
    }
}
