use serde::{Deserialize, Serialize};

use crate::{Annotations, Bytes64, ConfigId, Driver, Meta, is_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct ConfigSpec {
    #[serde(flatten)]
    pub annotations: Annotations,
    #[serde(skip_serializing_if = "is_default")]
    pub data: Bytes64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    #[serde(rename = "ID")]
    pub id: ConfigId,
    #[serde(flatten)]
    pub meta: Meta,
    pub spec: ConfigSpec,
}
