//! What a container gets of its host.

use std::collections::HashMap;

use bollard_stubs::models as api;

use super::mount::Mount;
use super::{object, words};

object! {
    /// The host configuration with defaults filled in.
    HostConfig as api::HostConfig {
        cpu_shares: i64 = "CpuShares",
        memory: i64 = "Memory",
        cgroup_parent: String = "CgroupParent",
        blkio_weight: u16 = "BlkioWeight",
        blkio_weight_device: Vec<WeightDevice> = "BlkioWeightDevice",
        blkio_device_read_bps: Vec<ThrottleDevice> = "BlkioDeviceReadBps",
        blkio_device_write_bps: Vec<ThrottleDevice> = "BlkioDeviceWriteBps",
        blkio_device_read_iops: Vec<ThrottleDevice> = "BlkioDeviceReadIOps",
        blkio_device_write_iops: Vec<ThrottleDevice> = "BlkioDeviceWriteIOps",
        cpu_period: i64 = "CpuPeriod",
        cpu_quota: i64 = "CpuQuota",
        cpu_realtime_period: i64 = "CpuRealtimePeriod",
        cpu_realtime_runtime: i64 = "CpuRealtimeRuntime",
        cpuset_cpus: String = "CpusetCpus",
        cpuset_mems: String = "CpusetMems",
        devices: Vec<DeviceMapping> = "Devices",
        device_cgroup_rules: Vec<String> = "DeviceCgroupRules",
        device_requests: Vec<DeviceRequest> = "DeviceRequests",
        memory_reservation: i64 = "MemoryReservation",
        memory_swap: i64 = "MemorySwap",
        memory_swappiness: i64 = "MemorySwappiness",
        nano_cpus: i64 = "NanoCpus",
        oom_kill_disable: bool = "OomKillDisable",
        init: bool = "Init",
        pids_limit: i64 = "PidsLimit",
        ulimits: Vec<Ulimit> = "Ulimits",
        cpu_count: i64 = "CpuCount",
        cpu_percent: i64 = "CpuPercent",
        io_maximum_iops: i64 = "IOMaximumIOps",
        io_maximum_bandwidth: i64 = "IOMaximumBandwidth",
        binds: Vec<String> = "Binds",
        container_id_file: String = "ContainerIDFile",
        log_config: LogConfig = "LogConfig",
        network_mode: String = "NetworkMode",
        port_bindings: HashMap<String, Option<Vec<PortBinding>>> = "PortBindings",
        restart_policy: RestartPolicy = "RestartPolicy",
        auto_remove: bool = "AutoRemove",
        volume_driver: String = "VolumeDriver",
        volumes_from: Vec<String> = "VolumesFrom",
        mounts: Vec<Mount> = "Mounts",
        console_size: Vec<usize> = "ConsoleSize",
        annotations: HashMap<String, String> = "Annotations",
        cap_add: Vec<String> = "CapAdd",
        cap_drop: Vec<String> = "CapDrop",
        cgroupns_mode: CgroupnsMode = "CgroupnsMode",
        dns: Vec<String> = "Dns",
        dns_options: Vec<String> = "DnsOptions",
        dns_search: Vec<String> = "DnsSearch",
        extra_hosts: Vec<String> = "ExtraHosts",
        group_add: Vec<String> = "GroupAdd",
        ipc_mode: String = "IpcMode",
        cgroup: String = "Cgroup",
        links: Vec<String> = "Links",
        oom_score_adj: i64 = "OomScoreAdj",
        pid_mode: String = "PidMode",
        privileged: bool = "Privileged",
        publish_all_ports: bool = "PublishAllPorts",
        readonly_rootfs: bool = "ReadonlyRootfs",
        security_opt: Vec<String> = "SecurityOpt",
        storage_opt: HashMap<String, String> = "StorageOpt",
        tmpfs: HashMap<String, String> = "Tmpfs",
        uts_mode: String = "UTSMode",
        userns_mode: String = "UsernsMode",
        shm_size: i64 = "ShmSize",
        sysctls: HashMap<String, String> = "Sysctls",
        runtime: String = "Runtime",
        isolation: Isolation = "Isolation",
        masked_paths: Vec<String> = "MaskedPaths",
        readonly_paths: Vec<String> = "ReadonlyPaths",
    }
}

object! {
    /// Where its output goes.
    LogConfig as api::HostConfigLogConfig {
        typ: String = "Type",
        config: HashMap<String, String> = "Config",
    }
}

object! {
    /// When it is started again.
    RestartPolicy as api::RestartPolicy {
        name: RestartPolicyName = "Name",
        maximum_retry_count: i64 = "MaximumRetryCount",
    }
}

words! {
    /// Names of policies.
    RestartPolicyName as api::RestartPolicyNameEnum {
        Empty = EMPTY = "",
        No = NO = "no",
        Always = ALWAYS = "always",
        UnlessStopped = UNLESS_STOPPED = "unless-stopped",
        OnFailure = ON_FAILURE = "on-failure",
    }
}

object! {
    /// A published port.
    PortBinding as api::PortBinding {
        host_ip: String = "HostIp",
        host_port: String = "HostPort",
    }
}

object! {
    /// A device of the host.
    DeviceMapping as api::DeviceMapping {
        path_on_host: String = "PathOnHost",
        path_in_container: String = "PathInContainer",
        cgroup_permissions: String = "CgroupPermissions",
    }
}

object! {
    /// Devices by what they can do.
    DeviceRequest as api::DeviceRequest {
        driver: String = "Driver",
        count: i64 = "Count",
        device_ids: Vec<String> = "DeviceIDs",
        capabilities: Vec<Vec<String>> = "Capabilities",
        options: HashMap<String, String> = "Options",
    }
}

object! {
    /// A limit of a process.
    Ulimit as api::ResourcesUlimits {
        name: String = "Name",
        soft: i64 = "Soft",
        hard: i64 = "Hard",
    }
}

object! {
    /// A limit for a block device.
    ThrottleDevice as api::ThrottleDevice {
        path: String = "Path",
        rate: i64 = "Rate",
    }
}

object! {
    /// A weight for a block device.
    WeightDevice as api::ResourcesBlkioWeightDevice {
        path: String = "Path",
        weight: usize = "Weight",
    }
}

words! {
    /// Whose control groups it sees.
    CgroupnsMode as api::HostConfigCgroupnsModeEnum {
        Empty = EMPTY = "",
        Private = PRIVATE = "private",
        Host = HOST = "host",
    }
}

words! {
    /// Of other systems; kept as given.
    Isolation as api::HostConfigIsolationEnum {
        Default = DEFAULT = "default",
        Process = PROCESS = "process",
        Hyperv = HYPERV = "hyperv",
        Empty = EMPTY = "",
    }
}
