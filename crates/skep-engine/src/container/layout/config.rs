//! What a container is to run.

use std::collections::HashMap;

use bollard_stubs::models as api;

use super::{Names, object};

object! {
    /// The configuration merged with the image's.
    ContainerConfig as api::ContainerConfig {
        hostname: String = "Hostname",
        domainname: String = "Domainname",
        user: String = "User",
        attach_stdin: bool = "AttachStdin",
        attach_stdout: bool = "AttachStdout",
        attach_stderr: bool = "AttachStderr",
        exposed_ports: Names = "ExposedPorts",
        tty: bool = "Tty",
        open_stdin: bool = "OpenStdin",
        stdin_once: bool = "StdinOnce",
        env: Vec<String> = "Env",
        cmd: Vec<String> = "Cmd",
        healthcheck: HealthConfig = "Healthcheck",
        args_escaped: bool = "ArgsEscaped",
        image: String = "Image",
        volumes: Names = "Volumes",
        working_dir: String = "WorkingDir",
        entrypoint: Vec<String> = "Entrypoint",
        network_disabled: bool = "NetworkDisabled",
        on_build: Vec<String> = "OnBuild",
        labels: HashMap<String, String> = "Labels",
        stop_signal: String = "StopSignal",
        stop_timeout: i64 = "StopTimeout",
        shell: Vec<String> = "Shell",
    }
}

object! {
    /// A health check; times in nanoseconds.
    HealthConfig as api::HealthConfig {
        test: Vec<String> = "Test",
        interval: i64 = "Interval",
        timeout: i64 = "Timeout",
        retries: i64 = "Retries",
        start_period: i64 = "StartPeriod",
        start_interval: i64 = "StartInterval",
    }
}
