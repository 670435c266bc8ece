//! Compiles the `.proto` files without `protoc`.

use std::error::Error;
use std::path::Path;

const ROOT: &str = "proto";
const FILES: [&str; 13] = [
    "docker/swarmkit/v1/types.proto",
    "docker/swarmkit/v1/specs.proto",
    "docker/swarmkit/v1/objects.proto",
    "docker/swarmkit/v1/ca.proto",
    "docker/swarmkit/v1/control.proto",
    "docker/swarmkit/v1/dispatcher.proto",
    "docker/swarmkit/v1/health.proto",
    "docker/swarmkit/v1/logbroker.proto",
    "docker/swarmkit/v1/raft.proto",
    "docker/swarmkit/v1/resource.proto",
    "docker/swarmkit/v1/snapshot.proto",
    "docker/swarmkit/v1/watch.proto",
    "raftpb/raft.proto",
];

/// Messages whose `Debug` is written by hand because they hold secrets (`src/redacted.rs`).
const REDACTED: [&str; 11] = [
    ".docker.swarmkit.v1.CAConfig",
    ".docker.swarmkit.v1.ContainerSpec.PullOptions",
    ".docker.swarmkit.v1.EncryptionKey",
    ".docker.swarmkit.v1.GetUnlockKeyResponse",
    ".docker.swarmkit.v1.IssueNodeCertificateRequest",
    ".docker.swarmkit.v1.JoinTokens",
    ".docker.swarmkit.v1.MaybeEncryptedRecord",
    ".docker.swarmkit.v1.RootCA",
    ".docker.swarmkit.v1.RootRotation",
    ".docker.swarmkit.v1.SecretSpec",
    ".docker.swarmkit.v1.VolumeSecret",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo:rerun-if-changed={}", Path::new(ROOT).join(file).display());
    }
    let descriptors = protox::compile(FILES, [ROOT])?;
    tonic_prost_build::configure()
        // Ordered maps, so that equal messages have equal bytes.
        .btree_map(".")
        .skip_debug(REDACTED)
        .include_file("packages.rs")
        .emit_rerun_if_changed(false)
        .compile_fds(descriptors)?;
    Ok(())
}
