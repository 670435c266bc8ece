//! The `filters` parameter of listing operations.

use std::collections::BTreeMap;

use serde_json::Value;
use skep_types::LabelFilter;
use skep_types::moment::moment;
use time::OffsetDateTime;

use crate::error::{EngineError, Result};
use crate::util;

/// Filters by name; values of one name are alternatives, names are all to be met.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Filters(BTreeMap<String, Vec<String>>);

impl Filters {
    /// No filters.
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the JSON text of the query parameter: `{"name":["a"]}`, or the older
    /// `{"name":{"a":true}}`. Empty text means no filters.
    ///
    /// # Errors
    /// `Invalid` when the text is neither.
    pub fn parse(text: &str) -> Result<Self> {
        if text.is_empty() {
            return Ok(Self::default());
        }
        let bad = || EngineError::Invalid(format!("invalid filters: {text}"));
        let Value::Object(object) = serde_json::from_str(text).map_err(|_| bad())? else {
            return Err(bad());
        };
        let mut filters = Self::default();
        for (name, values) in object {
            match values {
                Value::Array(list) => {
                    for value in list {
                        filters.add(&name, value.as_str().ok_or_else(bad)?);
                    }
                }
                Value::Object(set) => {
                    for (value, wanted) in set {
                        if wanted.as_bool().ok_or_else(bad)? {
                            filters.add(&name, &value);
                        }
                    }
                }
                _ => return Err(bad()),
            }
        }
        Ok(filters)
    }

    /// Adds an alternative.
    pub fn add(&mut self, name: &str, value: &str) {
        self.0.entry(name.to_owned()).or_default().push(value.to_owned());
    }

    /// The same with one more alternative.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.add(name, value);
        self
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The alternatives of a name; empty when it is not filtered.
    pub fn get(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Whether a name is filtered.
    pub fn has(&self, name: &str) -> bool {
        !self.get(name).is_empty()
    }

    /// Names and values as a plain map, in order.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.0.iter().map(|(k, v)| (k.as_str(), v.as_slice()))
    }

    /// Refuses names that the operation does not know.
    ///
    /// # Errors
    /// `Invalid` with Docker's text.
    pub fn validate(&self, known: &[&str]) -> Result<()> {
        match self.0.keys().find(|k| !known.contains(&k.as_str())) {
            Some(name) => Err(EngineError::Invalid(format!("invalid filter '{name}'"))),
            None => Ok(()),
        }
    }

    /// The `until` filter: a span of time before now (`1h30m`), a date or a unix time.
    ///
    /// # Errors
    /// `Invalid` for others, and for several.
    pub fn until(&self) -> Result<Option<OffsetDateTime>> {
        match self.get("until") {
            [] => Ok(None),
            [one] => moment(one, util::now())
                .map(Some)
                .ok_or_else(|| EngineError::Invalid(format!("invalid filter 'until={one}'"))),
            _ => Err(EngineError::invalid("more than one until filter specified")),
        }
    }

    /// A filter that is `true`/`1` or `false`/`0`; `default` when absent.
    ///
    /// # Errors
    /// `Invalid` for other values or contradicting ones.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        let values = self.get(name);
        let truth = |v: &String| matches!(v.as_str(), "true" | "1" | "t" | "T" | "TRUE" | "True");
        let falsity =
            |v: &String| matches!(v.as_str(), "false" | "0" | "f" | "F" | "FALSE" | "False");
        match values {
            [] => Ok(default),
            _ if values.iter().all(truth) => Ok(true),
            _ if values.iter().all(falsity) => Ok(false),
            _ => Err(EngineError::Invalid(format!("invalid filter '{name}={values:?}'"))),
        }
    }

    /// Whether one of the alternatives is exactly `value`, or the name is not filtered.
    pub fn exact(&self, name: &str, value: &str) -> bool {
        !self.has(name) || self.get(name).iter().any(|v| v == value)
    }

    /// Whether one of the alternatives begins `value`, or the name is not filtered.
    pub fn prefix(&self, name: &str, value: &str) -> bool {
        !self.has(name) || self.get(name).iter().any(|v| value.starts_with(v.as_str()))
    }

    /// Whether one of the alternatives occurs in `value`, or the name is not filtered. A leading `^`
    /// and a trailing `$` anchor; Docker takes regular expressions here, of which these two are used.
    pub fn fuzzy(&self, name: &str, value: &str) -> bool {
        !self.has(name) || self.get(name).iter().any(|v| anchored(v, value))
    }

    /// Whether labels meet every value of the filter `name`: `key` or `key=value`, all of them.
    pub fn labels<'a>(&self, name: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.get(name).iter().all(|wanted| LabelFilter::parse(wanted).fits(&lookup))
    }

    /// Whether labels meet no value of the filter `name` (`label!`).
    pub fn no_labels<'a>(&self, name: &str, lookup: impl Fn(&str) -> Option<&'a str>) -> bool {
        !self.get(name).iter().any(|wanted| LabelFilter::parse(wanted).fits(&lookup))
    }
}

fn anchored(pattern: &str, value: &str) -> bool {
    let (start, rest) = match pattern.strip_prefix('^') {
        Some(rest) => (true, rest),
        None => (false, pattern),
    };
    let (end, rest) = match rest.strip_suffix('$') {
        Some(rest) => (true, rest),
        None => (false, rest),
    };
    match (start, end) {
        (true, true) => value == rest,
        (true, false) => value.starts_with(rest),
        (false, true) => value.ends_with(rest),
        (false, false) => value.contains(rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_shapes_are_read() {
        let new = Filters::parse(r#"{"status":["running","paused"]}"#).unwrap();
        let old = Filters::parse(r#"{"status":{"running":true,"paused":true}}"#).unwrap();
        assert_eq!(new.get("status").len(), 2);
        assert_eq!(old.get("status").len(), 2);
        assert!(Filters::parse("").unwrap().is_empty());
        for bad in ["[]", "{", r#"{"a":1}"#, r#"{"a":[1]}"#, r#"{"a":{"b":2}}"#] {
            assert!(Filters::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn until_is_one_point_in_time() {
        let until = |values: &[&str]| {
            let f = values.iter().fold(Filters::new(), |f, value| f.with("until", value));
            f.until().map(|at| at.map(OffsetDateTime::unix_timestamp)).map_err(|e| e.to_string())
        };
        assert_eq!(until(&[]), Ok(None));
        assert_eq!(until(&["1970-01-02"]), Ok(Some(86400)));
        assert_eq!(until(&["5x"]), Err("invalid filter 'until=5x'".to_owned()));
        assert!(until(&["1h", "2h"]).unwrap_err().contains("more than one until filter"));
    }

    #[test]
    fn matching() {
        let f = Filters::new().with("name", "^/web").with("id", "ab").with("label", "a=b");
        assert!(f.fuzzy("name", "/web.1"));
        assert!(!f.fuzzy("name", "/myweb"));
        assert!(f.prefix("id", "abcdef"));
        assert!(!f.prefix("id", "bcd"));
        assert!(f.labels("label", |k| (k == "a").then_some("b")));
        assert!(!f.labels("label", |_| None));
        assert!(f.validate(&["name", "id"]).is_err());
        assert!(Filters::new().with("dangling", "x").flag("dangling", false).is_err());
    }
}
