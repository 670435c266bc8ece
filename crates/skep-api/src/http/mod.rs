//! What every operation shares: versions, queries, bodies, filters, errors and answers, with Docker's
//! rules for each.

mod body;
mod error;
mod lenient;
mod path;
mod query;
mod respond;
mod version;
mod view;

pub(crate) use body::{JsonBody, RawJson, decode, decode_value};
pub(crate) use error::{ApiError, ApiResult};
pub(crate) use path::{Name, Rest};
pub(crate) use query::Params;
pub(crate) use respond::{created, json, no_content, text};
pub(crate) use version::{ApiVersion, MAX_VERSION, MIN_VERSION, split_version};
pub(crate) use view::{public_view, to_value};
