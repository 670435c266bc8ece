use thiserror::Error;

use crate::MountType;

/// A setting that no container can have. The text names the value.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Malformed {
    #[error("Invalid signal: {text}")]
    Signal { text: String },
    /// `list` is `CapAdd` or `CapDrop`; `name` as Docker writes it, with `CAP_`.
    #[error("invalid {list}: unknown capability: {name:?}")]
    Capability { list: &'static str, name: String },
    #[error("sysctl {name:?} {why}")]
    Sysctl { name: String, why: &'static str },
    #[error("invalid ulimit type: {name}")]
    UlimitType { name: String },
    #[error("invalid ulimit {name}: {value}: must be at least -1 (unlimited)")]
    UlimitValue { name: String, value: i64 },
    #[error("ulimit soft limit must be less than or equal to hard limit: {soft} > {hard}")]
    UlimitOrder { soft: i64, hard: i64 },
    #[error("Invalid value: {value}, valid memory swappiness range is 0-100")]
    Swappiness { value: i64 },
    #[error("Invalid value {value}, range for oom score adj is [-1000, 1000]")]
    OomScoreAdj { value: i64 },
    #[error("invalid environment variable: {text}")]
    Environment { text: String },
    #[error("the working directory '{path}' is invalid, it needs to be an absolute path")]
    WorkingDir { path: String },
    /// `what` is `user` or `group`.
    #[error("invalid {what} {text:?}: {why}")]
    User { what: &'static str, text: String, why: &'static str },
    /// `what` is `hostname` or `domainname`.
    #[error("invalid {what}: {text:?}")]
    Hostname { what: &'static str, text: String },
    #[error("bad nameserver address: {text}")]
    Nameserver { text: String },
    #[error("invalid add-host: {text:?}: {why}")]
    ExtraHost { text: String, why: &'static str },
    #[error("{field} in Healthcheck cannot be less than 1ms")]
    HealthSpan { field: &'static str },
    #[error("Retries in Healthcheck cannot be negative")]
    HealthRetries,
    #[error("Unknown type {kind:?} in Healthcheck: use NONE, CMD or CMD-SHELL")]
    HealthTest { kind: String },
    #[error("logger: no log driver named '{name}' is registered (served are json-file and none)")]
    LogDriver { name: String },
    #[error("unknown log opt '{name}' for json-file log driver")]
    LogOption { name: String },
    #[error("invalid log option {name}={value}")]
    LogValue { name: String, value: String },
    #[error("max-file cannot be specified without max-size")]
    MaxFileAlone,
    #[error("invalid mount config for type \"{}\": {fault}", .kind.as_str())]
    Mount { kind: MountType, fault: MountFault },
    #[error("mount type \"{}\" is not supported on this host", .kind.as_str())]
    MountKind { kind: MountType },
    #[error("Duplicate mount point: {target}")]
    DuplicateMount { target: String },
    #[error("volume name is too short, names should be at least two alphanumeric characters")]
    ShortVolumeName,
    #[error(
        "create {name}: {name:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. If you intended to pass a host directory, use absolute path"
    )]
    VolumeName { name: String },
    #[error("invalid option: {name:?}")]
    VolumeOption { name: String },
    #[error("quota size requested but no quota support")]
    VolumeSize,
    #[error("missing required option: {name:?}")]
    VolumeOptionMissing { name: &'static str },
}

/// What is wrong with one mount.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum MountFault {
    #[error("field {field} must not be empty")]
    Empty { field: &'static str },
    #[error("field {field} must not be specified")]
    Unexpected { field: &'static str },
    #[error("invalid mount path: '{path}' mount path must be absolute")]
    Relative { path: String },
    #[error("invalid specification: destination can't be '/'")]
    Root,
    /// What covers part of /proc could hide what protects the host there; runc refuses it too.
    #[error("{path:?} cannot be mounted because it is inside /proc")]
    InProc { path: String },
    #[error("ReadOnlyForceRecursive requires ReadOnly")]
    ForceRecursiveWritable,
    #[error("ReadOnlyForceRecursive conflicts with a non-recursive option")]
    ForceRecursiveConflict,
    #[error("invalid subpath {path:?}: must be a relative path within the volume")]
    Subpath { path: String },
    #[error("invalid tmpfs size: {size}")]
    TmpfsSize { size: i64 },
    #[error("invalid tmpfs mode: {mode:o}")]
    TmpfsMode { mode: u32 },
    #[error("invalid tmpfs option: {option}")]
    TmpfsOption { option: String },
}
