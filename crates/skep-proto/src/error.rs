use thiserror::Error;

/// A message that does not describe an object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ConvertError {
    #[error("{field}: {value} is not a known {kind}")]
    UnknownEnum { field: String, kind: &'static str, value: i32 },
    #[error("{field}: {secs} s and {nanos} ns lie outside the representable time")]
    Time { field: String, secs: i64, nanos: i32 },
    #[error("{field}: not text in UTF-8")]
    NotUtf8 { field: String },
    #[error("{field}: not a JSON array of arrays of strings: {text}")]
    NotJson { field: String, text: String },
    #[error("{field}: missing")]
    Missing { field: String },
}

impl ConvertError {
    /// The same error seen from the message around it: `task` and `status.state` become
    /// `task.status.state`.
    pub fn within(mut self, outer: &str) -> Self {
        let field = match &mut self {
            Self::UnknownEnum { field, .. }
            | Self::Time { field, .. }
            | Self::NotUtf8 { field }
            | Self::NotJson { field, .. }
            | Self::Missing { field } => field,
        };
        *field = if field.is_empty() { outer.to_owned() } else { format!("{outer}.{field}") };
        self
    }

    /// Path of the field that is wrong, from the outermost message.
    pub fn field(&self) -> &str {
        match self {
            Self::UnknownEnum { field, .. }
            | Self::Time { field, .. }
            | Self::NotUtf8 { field }
            | Self::NotJson { field, .. }
            | Self::Missing { field } => field,
        }
    }
}
