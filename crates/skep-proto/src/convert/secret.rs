//! Secrets and configs.

use skep_types as t;

use super::util::{Result, into_or_default, maybe, owned, try_or_default};
use crate::{ConvertError, v1 as pb};

impl From<&t::SecretSpec> for pb::SecretSpec {
    fn from(spec: &t::SecretSpec) -> Self {
        Self {
            annotations: Some((&spec.annotations).into()),
            data: spec.data.0.clone(),
            templating: maybe(&spec.templating),
            driver: maybe(&spec.driver),
        }
    }
}

impl From<pb::SecretSpec> for t::SecretSpec {
    fn from(spec: pb::SecretSpec) -> Self {
        Self {
            annotations: into_or_default(spec.annotations),
            data: spec.data.into(),
            driver: spec.driver.map(Into::into),
            templating: spec.templating.map(Into::into),
        }
    }
}

impl From<&t::Secret> for pb::Secret {
    fn from(secret: &t::Secret) -> Self {
        Self {
            id: secret.id.to_string(),
            meta: Some((&secret.meta).into()),
            spec: Some((&secret.spec).into()),
            internal: secret.internal,
        }
    }
}

impl TryFrom<pb::Secret> for t::Secret {
    type Error = ConvertError;

    fn try_from(secret: pb::Secret) -> Result<Self> {
        Ok(Self {
            id: secret.id.into(),
            meta: try_or_default("meta", secret.meta)?,
            spec: into_or_default(secret.spec),
            internal: secret.internal,
        })
    }
}

impl From<&t::ConfigSpec> for pb::ConfigSpec {
    fn from(spec: &t::ConfigSpec) -> Self {
        Self {
            annotations: Some((&spec.annotations).into()),
            data: spec.data.0.clone(),
            templating: maybe(&spec.templating),
        }
    }
}

impl From<pb::ConfigSpec> for t::ConfigSpec {
    fn from(spec: pb::ConfigSpec) -> Self {
        Self {
            annotations: into_or_default(spec.annotations),
            data: spec.data.into(),
            templating: spec.templating.map(Into::into),
        }
    }
}

impl From<&t::Config> for pb::Config {
    fn from(config: &t::Config) -> Self {
        Self {
            id: config.id.to_string(),
            meta: Some((&config.meta).into()),
            spec: Some((&config.spec).into()),
        }
    }
}

impl TryFrom<pb::Config> for t::Config {
    type Error = ConvertError;

    fn try_from(config: pb::Config) -> Result<Self> {
        Ok(Self {
            id: config.id.into(),
            meta: try_or_default("meta", config.meta)?,
            spec: into_or_default(config.spec),
        })
    }
}

owned!(Secret, SecretSpec, Config, ConfigSpec);
