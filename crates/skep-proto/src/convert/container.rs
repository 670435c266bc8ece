//! A task's container.

use skep_types as t;

use super::util::{
    Result, clamp_i32, duration, into_list, known, list, maybe, maybe_nanos, nanos_or_zero,
    try_list, try_maybe,
};
use crate::{ConvertError, v1 as pb};

impl From<&t::HealthConfig> for pb::HealthConfig {
    fn from(health: &t::HealthConfig) -> Self {
        Self {
            test: health.test.clone(),
            interval: Some(duration(health.interval)),
            timeout: Some(duration(health.timeout)),
            retries: clamp_i32(health.retries),
            start_period: Some(duration(health.start_period)),
            start_interval: Some(duration(health.start_interval)),
        }
    }
}

impl TryFrom<pb::HealthConfig> for t::HealthConfig {
    type Error = ConvertError;

    fn try_from(health: pb::HealthConfig) -> Result<Self> {
        Ok(Self {
            test: health.test,
            interval: nanos_or_zero("interval", health.interval)?,
            timeout: nanos_or_zero("timeout", health.timeout)?,
            start_period: nanos_or_zero("start_period", health.start_period)?,
            start_interval: nanos_or_zero("start_interval", health.start_interval)?,
            retries: i64::from(health.retries),
        })
    }
}

impl From<&t::DnsConfig> for pb::container_spec::DnsConfig {
    fn from(dns: &t::DnsConfig) -> Self {
        Self {
            nameservers: dns.nameservers.clone(),
            search: dns.search.clone(),
            options: dns.options.clone(),
        }
    }
}

impl From<pb::container_spec::DnsConfig> for t::DnsConfig {
    fn from(dns: pb::container_spec::DnsConfig) -> Self {
        Self { nameservers: dns.nameservers, search: dns.search, options: dns.options }
    }
}

impl From<&t::Ulimit> for pb::container_spec::Ulimit {
    fn from(limit: &t::Ulimit) -> Self {
        Self { name: limit.name.clone(), soft: limit.soft, hard: limit.hard }
    }
}

impl From<pb::container_spec::Ulimit> for t::Ulimit {
    fn from(limit: pb::container_spec::Ulimit) -> Self {
        Self { name: limit.name, hard: limit.hard, soft: limit.soft }
    }
}

impl From<&t::FileTarget> for pb::FileTarget {
    fn from(file: &t::FileTarget) -> Self {
        Self {
            name: file.name.clone(),
            uid: file.uid.clone(),
            gid: file.gid.clone(),
            mode: file.mode,
        }
    }
}

impl From<pb::FileTarget> for t::FileTarget {
    fn from(file: pb::FileTarget) -> Self {
        Self { name: file.name, uid: file.uid, gid: file.gid, mode: file.mode }
    }
}

impl From<&t::SecretReference> for pb::SecretReference {
    fn from(reference: &t::SecretReference) -> Self {
        use pb::secret_reference::Target;
        Self {
            secret_id: reference.secret_id.to_string(),
            secret_name: reference.secret_name.clone(),
            target: reference.file.as_ref().map(|file| Target::File(file.into())),
        }
    }
}

impl From<pb::SecretReference> for t::SecretReference {
    fn from(reference: pb::SecretReference) -> Self {
        use pb::secret_reference::Target;
        Self {
            file: reference.target.map(|Target::File(file)| file.into()),
            secret_id: reference.secret_id.into(),
            secret_name: reference.secret_name,
        }
    }
}

impl From<&t::ConfigReference> for pb::ConfigReference {
    /// A file wins over a runtime target; validation refuses both at once.
    fn from(reference: &t::ConfigReference) -> Self {
        use pb::config_reference::Target;
        let file = reference.file.as_ref().map(|file| Target::File(file.into()));
        let runtime = reference.runtime.map(|_| Target::Runtime(pb::RuntimeTarget {}));
        Self {
            config_id: reference.config_id.to_string(),
            config_name: reference.config_name.clone(),
            target: file.or(runtime),
        }
    }
}

impl From<pb::ConfigReference> for t::ConfigReference {
    fn from(reference: pb::ConfigReference) -> Self {
        use pb::config_reference::Target;
        let (file, runtime) = match reference.target {
            Some(Target::File(file)) => (Some(file.into()), None),
            Some(Target::Runtime(_)) => (None, Some(t::RuntimeTarget {})),
            None => (None, None),
        };
        Self {
            file,
            runtime,
            config_id: reference.config_id.into(),
            config_name: reference.config_name,
        }
    }
}

impl From<&t::CredentialSpec> for pb::privileges::CredentialSpec {
    /// The first that is set of config, file and registry.
    fn from(spec: &t::CredentialSpec) -> Self {
        use pb::privileges::credential_spec::Source;
        let some = |text: &String| (!text.is_empty()).then(|| text.clone());
        let source = some(&spec.config)
            .map(Source::Config)
            .or_else(|| some(&spec.file).map(Source::File))
            .or_else(|| some(&spec.registry).map(Source::Registry));
        Self { source }
    }
}

impl From<pb::privileges::CredentialSpec> for t::CredentialSpec {
    fn from(spec: pb::privileges::CredentialSpec) -> Self {
        use pb::privileges::credential_spec::Source;
        let mut out = Self::default();
        match spec.source {
            Some(Source::Config(config)) => out.config = config,
            Some(Source::File(file)) => out.file = file,
            Some(Source::Registry(registry)) => out.registry = registry,
            None => {}
        }
        out
    }
}

impl From<&t::SeLinuxContext> for pb::privileges::SeLinuxContext {
    fn from(context: &t::SeLinuxContext) -> Self {
        Self {
            disable: context.disable,
            user: context.user.clone(),
            role: context.role.clone(),
            r#type: context.kind.clone(),
            level: context.level.clone(),
        }
    }
}

impl From<pb::privileges::SeLinuxContext> for t::SeLinuxContext {
    fn from(context: pb::privileges::SeLinuxContext) -> Self {
        Self {
            disable: context.disable,
            user: context.user,
            role: context.role,
            kind: context.r#type,
            level: context.level,
        }
    }
}

impl From<&t::SeccompOpts> for pb::privileges::SeccompOpts {
    fn from(options: &t::SeccompOpts) -> Self {
        Self {
            mode: pb::privileges::seccomp_opts::SeccompMode::from(options.mode).into(),
            profile: options.profile.0.clone(),
        }
    }
}

impl TryFrom<pb::privileges::SeccompOpts> for t::SeccompOpts {
    type Error = ConvertError;

    fn try_from(options: pb::privileges::SeccompOpts) -> Result<Self> {
        use pb::privileges::seccomp_opts::SeccompMode;
        Ok(Self {
            mode: known::<SeccompMode, _>("mode", "seccomp mode", options.mode)?,
            profile: options.profile.into(),
        })
    }
}

impl From<&t::AppArmorOpts> for pb::privileges::AppArmorOpts {
    fn from(options: &t::AppArmorOpts) -> Self {
        Self { mode: pb::privileges::app_armor_opts::AppArmorMode::from(options.mode).into() }
    }
}

impl TryFrom<pb::privileges::AppArmorOpts> for t::AppArmorOpts {
    type Error = ConvertError;

    fn try_from(options: pb::privileges::AppArmorOpts) -> Result<Self> {
        use pb::privileges::app_armor_opts::AppArmorMode;
        Ok(Self { mode: known::<AppArmorMode, _>("mode", "AppArmor mode", options.mode)? })
    }
}

impl From<&t::Privileges> for pb::Privileges {
    fn from(privileges: &t::Privileges) -> Self {
        Self {
            credential_spec: maybe(&privileges.credential_spec),
            selinux_context: maybe(&privileges.selinux_context),
            seccomp: maybe(&privileges.seccomp),
            apparmor: maybe(&privileges.app_armor),
            no_new_privileges: privileges.no_new_privileges,
        }
    }
}

impl TryFrom<pb::Privileges> for t::Privileges {
    type Error = ConvertError;

    fn try_from(privileges: pb::Privileges) -> Result<Self> {
        Ok(Self {
            credential_spec: privileges.credential_spec.map(Into::into),
            selinux_context: privileges.selinux_context.map(Into::into),
            seccomp: try_maybe("seccomp", privileges.seccomp)?,
            app_armor: try_maybe("apparmor", privileges.apparmor)?,
            no_new_privileges: privileges.no_new_privileges,
        })
    }
}

fn isolation_number(isolation: &str) -> i32 {
    use pb::container_spec::Isolation;
    match isolation {
        "process" => Isolation::Process,
        "hyperv" => Isolation::Hyperv,
        _ => Isolation::Default,
    }
    .into()
}

fn isolation_name(number: i32) -> Result<String> {
    use pb::container_spec::Isolation;
    match Isolation::try_from(number) {
        Ok(Isolation::Default) => Ok(String::new()),
        Ok(Isolation::Process) => Ok("process".to_owned()),
        Ok(Isolation::Hyperv) => Ok("hyperv".to_owned()),
        Err(_) => Err(ConvertError::UnknownEnum {
            field: "isolation".to_owned(),
            kind: "isolation",
            value: number,
        }),
    }
}

/// Encodes a container with its limit of processes, which the cluster objects keep with the other
/// limits.
pub(super) fn container_to_pb(spec: &t::ContainerSpec, pids_limit: i64) -> pb::ContainerSpec {
    let pull_options = (!spec.registry_auth.is_empty())
        .then(|| pb::container_spec::PullOptions { registry_auth: spec.registry_auth.clone() });
    pb::ContainerSpec {
        image: spec.image.clone(),
        labels: spec.labels.clone(),
        command: spec.command.clone(),
        args: spec.args.clone(),
        env: spec.env.clone(),
        dir: spec.dir.clone(),
        user: spec.user.clone(),
        mounts: list(&spec.mounts),
        stop_grace_period: spec.stop_grace_period.map(duration),
        pull_options,
        groups: spec.groups.clone(),
        secrets: list(&spec.secrets),
        tty: spec.tty,
        hostname: spec.hostname.clone(),
        dns_config: maybe(&spec.dns_config),
        healthcheck: maybe(&spec.healthcheck),
        hosts: spec.hosts.clone(),
        open_stdin: spec.open_stdin,
        read_only: spec.read_only,
        stop_signal: spec.stop_signal.clone(),
        configs: list(&spec.configs),
        privileges: maybe(&spec.privileges),
        init: spec.init,
        isolation: isolation_number(&spec.isolation),
        pids_limit,
        sysctls: spec.sysctls.clone(),
        capability_add: spec.capability_add.clone(),
        capability_drop: spec.capability_drop.clone(),
        ulimits: list(&spec.ulimits),
        oom_score_adj: spec.oom_score_adj,
    }
}

/// Decodes a container and its limit of processes.
pub(super) fn container_from_pb(spec: pb::ContainerSpec) -> Result<(t::ContainerSpec, i64)> {
    let container = t::ContainerSpec {
        image: spec.image,
        labels: spec.labels,
        command: spec.command,
        args: spec.args,
        hostname: spec.hostname,
        env: spec.env,
        dir: spec.dir,
        user: spec.user,
        groups: spec.groups,
        privileges: try_maybe("privileges", spec.privileges)?,
        init: spec.init,
        stop_signal: spec.stop_signal,
        tty: spec.tty,
        open_stdin: spec.open_stdin,
        read_only: spec.read_only,
        mounts: try_list("mounts", spec.mounts)?,
        stop_grace_period: maybe_nanos("stop_grace_period", spec.stop_grace_period)?,
        healthcheck: try_maybe("healthcheck", spec.healthcheck)?,
        hosts: spec.hosts,
        dns_config: spec.dns_config.map(Into::into),
        secrets: into_list(spec.secrets),
        configs: into_list(spec.configs),
        isolation: isolation_name(spec.isolation)?,
        sysctls: spec.sysctls,
        capability_add: spec.capability_add,
        capability_drop: spec.capability_drop,
        ulimits: into_list(spec.ulimits),
        oom_score_adj: spec.oom_score_adj,
        registry_auth: spec.pull_options.map(|o| o.registry_auth).unwrap_or_default(),
    };
    Ok((container, spec.pids_limit))
}
