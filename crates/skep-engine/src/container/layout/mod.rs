//! What a container's record is made of on disk.
//!
//! The engine works with the API's models, which come from a library and change with it. A file must not:
//! these are our own types, with our own names for JSON, and each has the fields of its model, one by one.
//! A model that gets, loses or changes a field does not compile here, and whoever mends that decides what
//! it means for files that exist. Absent fields are not written.

mod config;
mod endpoint;
mod host;
mod mount;

use std::collections::{BTreeMap, HashMap};

use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

pub use config::ContainerConfig;
pub use endpoint::EndpointSettings;
pub use host::HostConfig;

/// A type on disk and the model that it stands for.
pub trait Stored: Serialize + for<'de> Deserialize<'de> + Convert<Self::Api> {
    /// The model.
    type Api: Clone + Convert<Self>;
}

/// Writes a model as its type on disk: `#[serde(serialize_with)]`.
pub fn write<T: Stored, S: Serializer>(model: &T::Api, to: S) -> Result<S::Ok, S::Error> {
    let stored: T = model.clone().convert();
    stored.serialize(to)
}

/// Reads a model from its type on disk: `#[serde(deserialize_with)]`.
pub fn read<'de, T: Stored, D: Deserializer<'de>>(from: D) -> Result<T::Api, D::Error> {
    T::deserialize(from).map(Convert::convert)
}

/// From one side to the other, without loss.
pub trait Convert<T> {
    /// Itself on the other side.
    fn convert(self) -> T;
}

macro_rules! same {
    ($($kind:ty)*) => {$(
        impl Convert<$kind> for $kind {
            fn convert(self) -> $kind {
                self
            }
        }
    )*};
}
same! { String bool u16 usize i64 }

impl<T: Convert<U>, U> Convert<Option<U>> for Option<T> {
    fn convert(self) -> Option<U> {
        self.map(Convert::convert)
    }
}

impl<T: Convert<U>, U> Convert<Vec<U>> for Vec<T> {
    fn convert(self) -> Vec<U> {
        self.into_iter().map(Convert::convert).collect()
    }
}

impl<T: Convert<U>, U> Convert<HashMap<String, U>> for HashMap<String, T> {
    fn convert(self) -> HashMap<String, U> {
        self.into_iter().map(|(key, value)| (key, value.convert())).collect()
    }
}

/// Names that the API gives as the keys of an object whose values are empty objects.
#[derive(Debug, Clone, Default, PartialEq)]
struct Names(Vec<String>);

impl Convert<Vec<String>> for Names {
    fn convert(self) -> Vec<String> {
        self.0
    }
}

impl Convert<Names> for Vec<String> {
    fn convert(self) -> Names {
        Names(self)
    }
}

impl Serialize for Names {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Empty {}
        to.collect_map(self.0.iter().map(|name| (name, Empty {})))
    }
}

impl<'de> Deserialize<'de> for Names {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let names = BTreeMap::<String, IgnoredAny>::deserialize(from)?;
        Ok(Self(names.into_keys().collect()))
    }
}

/// A struct of optional fields: `field: type = "its name in JSON"`.
macro_rules! object {
    ($(#[$doc:meta])* $name:ident as $api:ty { $($field:ident: $kind:ty = $json:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
        pub struct $name {
            $(
                #[serde(rename = $json, default, skip_serializing_if = "Option::is_none")]
                $field: Option<$kind>,
            )*
        }

        impl super::Stored for $name {
            type Api = $api;
        }

        impl super::Convert<$api> for $name {
            fn convert(self) -> $api {
                let Self { $($field),* } = self;
                type Model = $api;
                Model { $($field: $field.convert(),)* }
            }
        }

        impl super::Convert<$name> for $api {
            fn convert(self) -> $name {
                type Model = $api;
                let Model { $($field),* } = self;
                $name { $($field: $field.convert(),)* }
            }
        }
    };
}

/// One of several words: `variant = the model's = "the word"`.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident as $api:ty { $($own:ident = $model:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        pub enum $name {
            $(
                #[serde(rename = $word)]
                $own,
            )*
        }

        impl super::Convert<$api> for $name {
            fn convert(self) -> $api {
                type Model = $api;
                match self {
                    $(Self::$own => Model::$model,)*
                }
            }
        }

        impl super::Convert<$name> for $api {
            fn convert(self) -> $name {
                type Model = $api;
                match self {
                    $(Model::$model => $name::$own,)*
                }
            }
        }
    };
}

use {object, words};
