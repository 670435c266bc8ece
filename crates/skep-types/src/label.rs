/// What the `label` filters of Docker's lists ask for: `key` or `key=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelFilter {
    /// The label's key.
    pub key: String,
    /// Its value; `None` fits any.
    pub value: Option<String>,
}

impl LabelFilter {
    /// As for the objects of one host: splits at the first `=`, and `key=` asks for an empty value.
    pub fn parse(text: &str) -> Self {
        match text.split_once('=') {
            Some((key, value)) => Self { key: key.to_owned(), value: Some(value.to_owned()) },
            None => Self { key: text.to_owned(), value: None },
        }
    }

    /// As for the objects of a swarm, where `key=` asks for the key alone: that is all its protocol can say.
    pub fn of_swarm(key: &str, value: &str) -> Self {
        Self { key: key.to_owned(), value: (!value.is_empty()).then(|| value.to_owned()) }
    }

    /// The same from `key` or `key=value`.
    pub fn parse_of_swarm(text: &str) -> Self {
        let (key, value) = text.split_once('=').unwrap_or((text, ""));
        Self::of_swarm(key, value)
    }

    /// Whether labels have it; `lookup` gives a label's value.
    pub fn fits<'a>(&self, lookup: impl FnOnce(&str) -> Option<&'a str>) -> bool {
        lookup(&self.key).is_some_and(|found| self.value.as_ref().is_none_or(|want| want == found))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_and_a_swarm_read_an_empty_value_differently() {
        let labels = [("a", "b"), ("e", ""), ("k=v", "w")];
        let lookup =
            |key: &str| labels.iter().find(|(name, _)| *name == key).map(|(_, value)| *value);
        for (text, of_host, of_swarm) in [
            ("a", true, true),
            ("a=b", true, true),
            ("a=c", false, false),
            ("a=", false, true),
            ("e", true, true),
            ("e=", true, true),
            ("e=x", false, false),
            ("none", false, false),
            ("none=", false, false),
            ("", false, false),
            // The first `=` ends the key.
            ("k=v=w", false, false),
        ] {
            assert_eq!(LabelFilter::parse(text).fits(lookup), of_host, "{text} of a host");
            assert_eq!(
                LabelFilter::parse_of_swarm(text).fits(lookup),
                of_swarm,
                "{text} of a swarm"
            );
        }
    }
}
