use serde::{Deserialize, Serialize};

use crate::StringMap;

/// Name and labels that a user gives to an object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Annotations {
    pub name: String,
    pub labels: StringMap,
}
