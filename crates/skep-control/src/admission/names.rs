use skep_types::Annotations;

use super::ControlError;

/// Longest name of a service or network, as a DNS label.
const MAX_NAME: usize = 63;
const MAX_SECRET_NAME: usize = 64;

/// Services and networks: letters and digits, with `-` and `_` inside.
pub(super) fn check_dns_name(annotations: &Annotations) -> Result<(), ControlError> {
    let name = annotations.name.as_str();
    if name.is_empty() {
        return Err(ControlError::invalid("meta: name must be provided"));
    }
    if name.len() > MAX_NAME {
        return Err(ControlError::invalid(format!(
            "name must be {MAX_NAME} characters or fewer: {name}"
        )));
    }
    if !fits(name, |c| c == '-' || c == '_') {
        return Err(ControlError::invalid(format!(
            "name must be valid as a DNS name component: {name}"
        )));
    }
    Ok(())
}

/// Secrets and configs: letters and digits, with `-`, `_` and `.` inside.
pub(super) fn check_file_name(annotations: &Annotations) -> Result<(), ControlError> {
    let name = annotations.name.as_str();
    if name.is_empty() {
        return Err(ControlError::invalid("name must be provided"));
    }
    if name.len() > MAX_SECRET_NAME || !fits(name, |c| matches!(c, '-' | '_' | '.')) {
        return Err(ControlError::invalid(format!(
            "invalid name {name}, only {MAX_SECRET_NAME} [a-zA-Z0-9-_.] characters allowed, and the \
             start and end character must be [a-zA-Z0-9]"
        )));
    }
    Ok(())
}

fn fits(name: &str, inside: impl Fn(char) -> bool) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric();
    name.starts_with(plain) && name.ends_with(plain) && name.chars().all(|c| plain(c) || inside(c))
}
