use serde::{Deserialize, Serialize};

use crate::{Annotations, Bytes64, Driver, Meta, SecretId, is_default};

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct SecretSpec {
    #[serde(flatten)]
    pub annotations: Annotations,
    /// Never shown by the API.
    #[serde(skip_serializing_if = "is_default")]
    pub data: Bytes64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub driver: Option<Driver>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templating: Option<Driver>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Secret {
    #[serde(rename = "ID")]
    pub id: SecretId,
    #[serde(flatten)]
    pub meta: Meta,
    pub spec: SecretSpec,
    /// Made by the manager for one task, not by a user.
    #[serde(rename = "_internal", skip_serializing_if = "is_default")]
    pub internal: bool,
}
