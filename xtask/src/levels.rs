//! The arrows between crates: a crate depends only on crates of a lower level.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

/// Level of each crate; `docs/architecture.md` says what each is for. Test rooms stand above all.
const LEVELS: &[(&str, u8)] = &[
    ("skep-types", 0),
    ("skep-sys", 0),
    ("skep-proto", 1),
    ("skep-control", 1),
    ("skep-gossip", 1),
    ("skep-image", 2),
    ("skep-container", 2),
    ("skep-pki", 2),
    ("skep-net", 3),
    ("skep-engine", 4),
    ("skep-manager", 5),
    ("skep-agent", 5),
    ("skep-node", 6),
    ("skep-api", 7),
    ("skep", 8),
    ("skep-whoami", 0),
    ("skep-testbed", 9),
    ("xtask", 9),
];

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<Package>,
}

#[derive(Deserialize)]
struct Package {
    name: String,
    manifest_path: String,
    dependencies: Vec<Dependency>,
}

#[derive(Deserialize)]
struct Dependency {
    name: String,
    path: Option<String>,
}

/// Fails on an arrow pointing upwards or sideways, on a crate without a level, and on a crate that
/// does not inherit the workspace's lints (`skep-sys` has its own).
pub fn check() -> Result<()> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version=1", "--no-deps", "--offline"])
        .output()
        .context("run cargo metadata")?;
    if !output.status.success() {
        bail!("cargo metadata: {}", String::from_utf8_lossy(&output.stderr));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).context("read cargo metadata")?;
    let faults = faults(&metadata)?;
    if !faults.is_empty() {
        bail!("{} fault(s):\n{}", faults.len(), faults.join("\n"));
    }
    println!("levels: {} crates, no arrow points upwards", metadata.packages.len());
    Ok(())
}

fn faults(metadata: &Metadata) -> Result<Vec<String>> {
    let levels: BTreeMap<&str, u8> = LEVELS.iter().copied().collect();
    let mut faults = Vec::new();
    for package in &metadata.packages {
        let Some(own) = levels.get(package.name.as_str()) else {
            faults.push(format!("{} has no level in xtask/src/levels.rs", package.name));
            continue;
        };
        for dependency in package.dependencies.iter().filter(|d| d.path.is_some()) {
            match levels.get(dependency.name.as_str()) {
                Some(other) if other < own => {}
                Some(other) => faults.push(format!(
                    "{} (level {own}) depends on {} (level {other})",
                    package.name, dependency.name
                )),
                None => faults.push(format!("{} has no level", dependency.name)),
            }
        }
        let manifest = std::fs::read_to_string(&package.manifest_path)
            .with_context(|| format!("read {}", package.manifest_path))?;
        if package.name != "skep-sys" && !manifest.contains("[lints]\nworkspace = true") {
            faults.push(format!("{} does not inherit the workspace lints", package.name));
        }
    }
    Ok(faults)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_upward_arrow_is_a_fault() {
        let manifest = tempdir_manifest();
        let metadata = Metadata {
            packages: vec![Package {
                name: "skep-types".into(),
                manifest_path: manifest,
                dependencies: vec![Dependency {
                    name: "skep-engine".into(),
                    path: Some("crates/skep-engine".into()),
                }],
            }],
        };
        let found = faults(&metadata).unwrap();
        assert_eq!(found, ["skep-types (level 0) depends on skep-engine (level 4)"]);
    }

    fn tempdir_manifest() -> String {
        concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml").to_owned()
    }
}
