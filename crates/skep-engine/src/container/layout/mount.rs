//! Mounts as they were asked for.

use std::collections::HashMap;

use bollard_stubs::models as api;

use super::{object, words};

object! {
    /// A mount.
    Mount as api::Mount {
        target: String = "Target",
        source: String = "Source",
        typ: MountType = "Type",
        read_only: bool = "ReadOnly",
        consistency: String = "Consistency",
        bind_options: MountBindOptions = "BindOptions",
        volume_options: MountVolumeOptions = "VolumeOptions",
        image_options: MountImageOptions = "ImageOptions",
        tmpfs_options: MountTmpfsOptions = "TmpfsOptions",
    }
}

words! {
    /// Kinds of mounts.
    MountType as api::MountType {
        Bind = BIND = "bind",
        Cluster = CLUSTER = "cluster",
        Image = IMAGE = "image",
        Npipe = NPIPE = "npipe",
        Tmpfs = TMPFS = "tmpfs",
        Volume = VOLUME = "volume",
    }
}

object! {
    /// Of a bind.
    MountBindOptions as api::MountBindOptions {
        propagation: Propagation = "Propagation",
        non_recursive: bool = "NonRecursive",
        create_mountpoint: bool = "CreateMountpoint",
        read_only_non_recursive: bool = "ReadOnlyNonRecursive",
        read_only_force_recursive: bool = "ReadOnlyForceRecursive",
    }
}

words! {
    /// How mounts below it spread.
    Propagation as api::MountBindOptionsPropagationEnum {
        Empty = EMPTY = "",
        Private = PRIVATE = "private",
        Rprivate = RPRIVATE = "rprivate",
        Shared = SHARED = "shared",
        Rshared = RSHARED = "rshared",
        Slave = SLAVE = "slave",
        Rslave = RSLAVE = "rslave",
    }
}

object! {
    /// Of a volume.
    MountVolumeOptions as api::MountVolumeOptions {
        no_copy: bool = "NoCopy",
        labels: HashMap<String, String> = "Labels",
        driver_config: DriverConfig = "DriverConfig",
        subpath: String = "Subpath",
    }
}

object! {
    /// Who makes the volume.
    DriverConfig as api::MountVolumeOptionsDriverConfig {
        name: String = "Name",
        options: HashMap<String, String> = "Options",
    }
}

object! {
    /// Of an image.
    MountImageOptions as api::MountImageOptions {
        subpath: String = "Subpath",
    }
}

object! {
    /// Of a tmpfs.
    MountTmpfsOptions as api::MountTmpfsOptions {
        size_bytes: i64 = "SizeBytes",
        mode: i64 = "Mode",
        options: Vec<Vec<String>> = "Options",
    }
}
