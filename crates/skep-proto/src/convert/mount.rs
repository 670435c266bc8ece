use skep_types as t;

use super::util::{Result, known, maybe, try_maybe};
use crate::{ConvertError, v1 as pb};

impl From<&t::BindOptions> for pb::mount::BindOptions {
    fn from(options: &t::BindOptions) -> Self {
        Self {
            propagation: pb::mount::bind_options::Propagation::from(options.propagation).into(),
            nonrecursive: options.non_recursive,
            createmountpoint: options.create_mountpoint,
            readonlynonrecursive: options.read_only_non_recursive,
            readonlyforcerecursive: options.read_only_force_recursive,
        }
    }
}

impl TryFrom<pb::mount::BindOptions> for t::BindOptions {
    type Error = ConvertError;

    fn try_from(options: pb::mount::BindOptions) -> Result<Self> {
        use pb::mount::bind_options::Propagation;
        Ok(Self {
            propagation: known::<Propagation, _>(
                "propagation",
                "mount propagation",
                options.propagation,
            )?,
            non_recursive: options.nonrecursive,
            create_mountpoint: options.createmountpoint,
            read_only_non_recursive: options.readonlynonrecursive,
            read_only_force_recursive: options.readonlyforcerecursive,
        })
    }
}

impl From<&t::VolumeOptions> for pb::mount::VolumeOptions {
    fn from(options: &t::VolumeOptions) -> Self {
        Self {
            nocopy: options.no_copy,
            labels: options.labels.clone(),
            driver_config: maybe(&options.driver_config),
            subpath: options.subpath.clone(),
        }
    }
}

impl From<pb::mount::VolumeOptions> for t::VolumeOptions {
    fn from(options: pb::mount::VolumeOptions) -> Self {
        Self {
            no_copy: options.nocopy,
            labels: options.labels,
            subpath: options.subpath,
            driver_config: options.driver_config.map(Into::into),
        }
    }
}

impl From<&t::TmpfsOptions> for pb::mount::TmpfsOptions {
    /// The options travel as the text of a JSON array of arrays of strings.
    fn from(options: &t::TmpfsOptions) -> Self {
        let text = if options.options.is_empty() {
            String::new()
        } else {
            serde_json::json!(options.options).to_string()
        };
        Self { size_bytes: options.size_bytes, mode: options.mode, options: text }
    }
}

impl TryFrom<pb::mount::TmpfsOptions> for t::TmpfsOptions {
    type Error = ConvertError;

    fn try_from(options: pb::mount::TmpfsOptions) -> Result<Self> {
        let list = match options.options.as_str() {
            "" => Vec::new(),
            text => serde_json::from_str(text).map_err(|_| ConvertError::NotJson {
                field: "options".to_owned(),
                text: text.to_owned(),
            })?,
        };
        Ok(Self { size_bytes: options.size_bytes, mode: options.mode, options: list })
    }
}

impl From<&t::Mount> for pb::Mount {
    fn from(mount: &t::Mount) -> Self {
        Self {
            r#type: pb::mount::Type::from(mount.kind).into(),
            source: mount.source.clone(),
            target: mount.target.clone(),
            readonly: mount.read_only,
            bind_options: maybe(&mount.bind_options),
            volume_options: maybe(&mount.volume_options),
            tmpfs_options: maybe(&mount.tmpfs_options),
            consistency: pb::mount::Consistency::from(mount.consistency).into(),
        }
    }
}

impl TryFrom<pb::Mount> for t::Mount {
    type Error = ConvertError;

    fn try_from(mount: pb::Mount) -> Result<Self> {
        use pb::mount::{Consistency, Type};
        Ok(Self {
            kind: known::<Type, _>("type", "mount type", mount.r#type)?,
            source: mount.source,
            target: mount.target,
            read_only: mount.readonly,
            consistency: known::<Consistency, _>(
                "consistency",
                "mount consistency",
                mount.consistency,
            )?,
            bind_options: try_maybe("bind_options", mount.bind_options)?,
            volume_options: mount.volume_options.map(Into::into),
            tmpfs_options: try_maybe("tmpfs_options", mount.tmpfs_options)?,
        })
    }
}
