//! `docker update` and `docker rename`.

use std::sync::Arc;

use bollard_stubs::models::{ContainerUpdateBody, ContainerUpdateResponse, HostConfig};
use skep_net::SandboxId;

use super::cell::Container;
use super::watch::Phase;
use super::{names, resources, validate};
use crate::engine::Engine;
use crate::error::{EngineError, Result};

impl Engine {
    /// Changes limits and the restart policy, at once for a running container.
    ///
    /// # Errors
    /// `Invalid` for limits that cannot be; nothing is changed then.
    pub async fn container_update(
        &self,
        container: &str,
        body: ContainerUpdateBody,
    ) -> Result<ContainerUpdateResponse> {
        let c = self.inner.containers.find(container)?;
        let _op = c.op.lock().await;
        if matches!(c.phase(), Phase::Removing | Phase::Dead) {
            return Err(EngineError::Conflict(format!(
                "Cannot update container {}: container is marked for removal and cannot be \"update\"",
                c.id
            )));
        }
        let before = c.read(|r| r.host_config.clone());
        let after = apply(before.clone(), body);
        validate::restart_policy(
            after.restart_policy.as_ref(),
            after.auto_remove.unwrap_or(false),
        )?;
        validate::resources(&after)?;
        if c.phase().is_running() {
            let limits = resources::resources(&after)?;
            if limits != resources::resources(&before)? {
                self.running_handle(&c)?.update(limits).await?;
            }
        }
        c.change(|r| r.host_config = after);
        if let Err(error) = c.save_lasting().await {
            c.change(|r| r.host_config.clone_from(&before));
            if c.phase().is_running() {
                let limits = resources::resources(&before)?;
                self.running_handle(&c)?.update(limits).await?;
            }
            return Err(error);
        }
        self.container_event(&c, "update", &[]);
        Ok(ContainerUpdateResponse { warnings: Some(Vec::new()) })
    }

    /// Gives a container another name.
    ///
    /// # Errors
    /// `Invalid`, `NameInUse`.
    pub async fn container_rename(&self, container: &str, name: &str) -> Result<()> {
        if name.is_empty() || name == "/" {
            return Err(EngineError::invalid("New name cannot be empty"));
        }
        let c = self.inner.containers.find(container)?;
        let name = names::check(name)?.to_owned();
        let _op = c.op.lock().await;
        let old = c.name();
        if old == name {
            return Err(EngineError::invalid(
                "Renaming a container with the same name as its current name",
            ));
        }
        self.inner.containers.reserve(Some(&name), &c.id)?;
        c.change(|r| r.name.clone_from(&name));
        let done = self.rename_locked(&c, &name).await;
        match done {
            Ok(()) => {
                self.inner.containers.release(&old, &c.id);
                c.live(|l| l.former_name = None);
                self.container_event(&c, "rename", &[("oldName", &format!("/{old}"))]);
                Ok(())
            }
            Err(error) => {
                c.change(|r| r.name.clone_from(&old));
                if let Err(error) = self.rename_in_network(&c, &old).await {
                    tracing::warn!(
                        container = c.id,
                        error = &error as &dyn std::error::Error,
                        "could not take back a container's new name in its networks"
                    );
                }
                self.inner.containers.release(&name, &c.id);
                Err(error)
            }
        }
    }

    /// Makes a container's name, which its record has already, that of its networks and of the file.
    pub(super) async fn rename_locked(&self, c: &Arc<Container>, name: &str) -> Result<()> {
        self.rename_in_network(c, name).await?;
        c.save_lasting().await
    }

    async fn rename_in_network(&self, c: &Arc<Container>, name: &str) -> Result<()> {
        if let Some(sandbox) = c.read(|r| r.state.sandbox.clone()) {
            self.inner.net.rename(&SandboxId::new(sandbox), name).await?;
        }
        Ok(())
    }
}

/// Lays an update over a configuration; zero and absent values change nothing, as in Docker.
fn apply(mut host: HostConfig, body: ContainerUpdateBody) -> HostConfig {
    fn set<T: PartialEq + Default>(own: &mut Option<T>, new: Option<T>) {
        if new.as_ref().is_some_and(|n| *n != T::default()) {
            *own = new;
        }
    }
    // A new share replaces the other way of saying it.
    if body.nano_cpus.is_some_and(|n| n > 0) {
        host.cpu_period = None;
        host.cpu_quota = None;
    } else if body.cpu_quota.is_some_and(|n| n != 0) || body.cpu_period.is_some_and(|n| n != 0) {
        host.nano_cpus = None;
    }
    let memory_alone = body.memory.is_some_and(|m| m > 0) && body.memory_swap.unwrap_or(0) == 0;
    if memory_alone
        && host.memory_swap.is_some_and(|s| s == host.memory.unwrap_or(0).saturating_mul(2))
    {
        // The swap limit was derived from memory, and goes on being so.
        host.memory_swap = body.memory.map(|m| m.saturating_mul(2));
    }
    set(&mut host.cpu_shares, body.cpu_shares);
    set(&mut host.memory, body.memory);
    set(&mut host.memory_swap, body.memory_swap);
    set(&mut host.memory_reservation, body.memory_reservation);
    set(&mut host.blkio_weight, body.blkio_weight);
    set(&mut host.cpu_period, body.cpu_period);
    set(&mut host.cpu_quota, body.cpu_quota);
    set(&mut host.cpu_realtime_period, body.cpu_realtime_period);
    set(&mut host.cpu_realtime_runtime, body.cpu_realtime_runtime);
    set(&mut host.cpuset_cpus, body.cpuset_cpus);
    set(&mut host.cpuset_mems, body.cpuset_mems);
    set(&mut host.nano_cpus, body.nano_cpus);
    set(&mut host.pids_limit, body.pids_limit);
    if let Some(policy) = body.restart_policy
        && policy.name.is_some_and(|n| n != bollard_stubs::models::RestartPolicyNameEnum::EMPTY)
    {
        host.restart_policy = Some(policy);
    }
    host
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn laying_over() {
        let host = HostConfig {
            memory: Some(64 << 20),
            memory_swap: Some(128 << 20),
            cpu_quota: Some(5000),
            ..Default::default()
        };
        let body = ContainerUpdateBody {
            memory: Some(32 << 20),
            nano_cpus: Some(1),
            ..Default::default()
        };
        let after = apply(host.clone(), body);
        assert_eq!((after.memory, after.memory_swap), (Some(32 << 20), Some(64 << 20)));
        assert_eq!((after.cpu_quota, after.nano_cpus), (None, Some(1)));
        assert_eq!(
            apply(host.clone(), ContainerUpdateBody { memory: Some(0), ..Default::default() }),
            host
        );
    }
}
