use super::Malformed;

/// The drivers that write containers' logs.
pub const LOG_DRIVERS: [&str; 2] = ["json-file", "none"];

/// Options of the `json-file` driver.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JsonFile {
    /// Bytes after which a file is rotated; `None` never.
    pub max_size: Option<u64>,
    /// Files kept, the current one included; at least one.
    pub max_files: u32,
    /// Labels whose values go into each line.
    pub labels: Vec<String>,
    /// Variables whose values go into each line.
    pub env: Vec<String>,
    pub tag: Option<String>,
}

/// Checks a driver by name, with its options.
///
/// # Errors
/// One of the `Log…` kinds of [`Malformed`], or [`Malformed::MaxFileAlone`].
pub fn log_driver<'a>(
    name: &str,
    options: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<(), Malformed> {
    match name {
        "none" => Ok(()),
        "json-file" => json_file(options).map(drop),
        other => Err(Malformed::LogDriver { name: other.to_owned() }),
    }
}

/// Reads the options of the `json-file` driver.
///
/// # Errors
/// As [`log_driver`].
pub fn json_file<'a>(
    options: impl IntoIterator<Item = (&'a String, &'a String)>,
) -> Result<JsonFile, Malformed> {
    let mut read =
        JsonFile { max_size: None, max_files: 1, labels: Vec::new(), env: Vec::new(), tag: None };
    let words = |value: &str| value.split(',').map(str::to_owned).collect();
    for (name, value) in options {
        let bad = || Malformed::LogValue { name: name.clone(), value: value.clone() };
        match name.as_str() {
            "max-size" if value == "-1" => {}
            "max-size" => {
                read.max_size = Some(size(value).filter(|n| *n > 0).ok_or_else(bad)?);
            }
            "max-file" => {
                read.max_files = value.parse().ok().filter(|n| *n > 0).ok_or_else(bad)?;
            }
            "labels" => read.labels = words(value),
            "env" => read.env = words(value),
            "tag" => read.tag = Some(value.clone()),
            // Rotated files are not compressed, and writing is direct: these change nothing a reader
            // could see.
            "compress" | "mode" | "max-buffer-size" => {}
            _ => return Err(Malformed::LogOption { name: name.clone() }),
        }
    }
    if read.max_files > 1 && read.max_size.is_none() {
        return Err(Malformed::MaxFileAlone);
    }
    Ok(read)
}

/// Bytes written as `10m`, `1g`, `500k`, `100`, with optional `b` and `ib` after the unit.
pub fn size(text: &str) -> Option<u64> {
    let lower = text.trim().to_ascii_lowercase();
    let digits = lower.trim_end_matches(|c: char| c.is_ascii_alphabetic() || c == ' ');
    let unit = lower[digits.len()..].trim();
    let shift = match unit.trim_end_matches("ib").trim_end_matches('b') {
        "" => 0,
        "k" => 10,
        "m" => 20,
        "g" => 30,
        "t" => 40,
        _ => return None,
    };
    if let Ok(number) = digits.parse::<u64>() {
        return number.checked_mul(1 << shift);
    }
    let number: f64 =
        digits.parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0 && *n < 1e6)?;
    // Between 0 and 1e6 times a power of two: the conversion loses nothing that matters.
    Some((number * (1u64 << shift) as f64) as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StringMap;

    #[test]
    fn sizes() {
        for (text, want) in [
            ("10m", Some(10 << 20)),
            ("1k", Some(1024)),
            ("5", Some(5)),
            ("1.5g", Some(3 << 29)),
            ("2KiB", Some(2048)),
            ("x", None),
            ("-1", None),
            ("1x", None),
        ] {
            assert_eq!(size(text), want, "{text}");
        }
    }

    #[test]
    fn drivers() {
        let options = |pairs: &[(&str, &str)]| -> StringMap {
            pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
        };
        let read = json_file(&options(&[("max-size", "10m"), ("max-file", "3")])).unwrap();
        assert_eq!((read.max_size, read.max_files), (Some(10 << 20), 3));
        log_driver("none", &options(&[])).unwrap();
        for (name, pairs, words) in [
            ("syslog", &[][..], "'syslog'"),
            ("json-file", &[("max-file", "3")], "without max-size"),
            ("json-file", &[("max-size", "0")], "max-size=0"),
            ("json-file", &[("max-file", "x")], "max-file=x"),
            ("json-file", &[("foo", "1")], "'foo'"),
        ] {
            let refused = log_driver(name, &options(pairs)).unwrap_err().to_string();
            assert!(refused.contains(words), "{refused}");
        }
    }
}
