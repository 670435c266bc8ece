//! The part of Go's text/template that service specs use: `{{.Service.Name}}`,
//! `{{.Service.Labels.key}}`, `{{index .Service.Labels "key"}}`, with optional trim marks; in the contents
//! of secrets and configs also `{{env "NAME"}}`, `{{secret "target"}}` and `{{config "target"}}`. Anything
//! else is an error, so that nobody gets a container with half an expression in its environment.

use std::collections::BTreeMap;

use skep_types::{ContainerSpec, Driver, Mount, NodeDescription, StringMap, Task};
use thiserror::Error;

/// The one kind of template that secrets and configs may name.
const GOLANG: &str = "golang";

/// A template in a service's spec, secret or config that cannot be filled in.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TemplateError {
    #[error("templates of kind {name:?} are not supported: expected golang")]
    Kind { name: String },
    #[error("the template is not text in UTF-8")]
    NotText,
    #[error("{field}: {{{{ without }}}} in {text:?}")]
    Open { field: String, text: String },
    #[error(
        "{field}: {expression:?} is not supported: expected a field such as .Service.Name, or index of a map"
    )]
    Expression { field: String, expression: String },
    #[error("{field}: no such value: {expression}")]
    Unknown { field: String, expression: String },
}

#[derive(Clone, Debug)]
enum Value {
    Text(String),
    Map(StringMap),
}

/// What templates of one task may refer to.
#[derive(Clone, Debug)]
pub(crate) struct Context {
    values: BTreeMap<&'static str, Value>,
}

/// What the functions in contents look up, for one task: variables by name, and the secrets and configs
/// that have arrived by their targets. What they give is inserted as it is, templates or not.
#[derive(Clone, Debug, Default)]
pub(crate) struct Payload {
    pub env: BTreeMap<String, String>,
    pub secrets: BTreeMap<String, Vec<u8>>,
    pub configs: BTreeMap<String, Vec<u8>>,
}

const OPEN: &str = "{{";
const CLOSE: &str = "}}";

/// Fills in the templates in environment, hostname and mounts.
pub(crate) fn expand(task: &Task, node: &NodeDescription) -> Result<Task, TemplateError> {
    let context = Context::of(task, node);
    let mut task = task.clone();
    if let Some(container) = &mut task.spec.container_spec {
        expand_container(container, &context)?;
    }
    Ok(task)
}

fn expand_container(container: &mut ContainerSpec, context: &Context) -> Result<(), TemplateError> {
    context.fill("hostname", &mut container.hostname)?;
    for variable in &mut container.env {
        let name = variable.split('=').next().unwrap_or_default();
        let field = format!("env {name}");
        context.fill(&field, variable)?;
    }
    for mount in &mut container.mounts {
        expand_mount(mount, context)?;
    }
    Ok(())
}

fn expand_mount(mount: &mut Mount, context: &Context) -> Result<(), TemplateError> {
    context.fill("mount source", &mut mount.source)?;
    context.fill("mount target", &mut mount.target)?;
    let Some(options) = &mut mount.volume_options else { return Ok(()) };
    for (key, value) in &mut options.labels {
        context.fill(&format!("volume label {key}"), value)?;
    }
    if let Some(driver) = &mut options.driver_config {
        for (key, value) in &mut driver.options {
            context.fill(&format!("volume driver option {key}"), value)?;
        }
    }
    Ok(())
}

impl Context {
    pub(crate) fn of(task: &Task, node: &NodeDescription) -> Self {
        let text = |text: &str| Value::Text(text.to_owned());
        // A task of a global service is told apart by its node.
        let slot = match task.slot {
            0 => task.node_id.to_string(),
            slot => slot.to_string(),
        };
        let values = BTreeMap::from([
            (".Service.ID", text(task.service_id.as_str())),
            (".Service.Name", text(&task.service_annotations.name)),
            (".Service.Labels", Value::Map(task.service_annotations.labels.clone())),
            (".Node.ID", text(task.node_id.as_str())),
            (".Node.Hostname", text(&node.hostname)),
            (".Node.Platform.Architecture", text(&node.platform.architecture)),
            (".Node.Platform.OS", text(&node.platform.os)),
            (".Task.ID", text(task.id.as_str())),
            (".Task.Name", Value::Text(task.name())),
            (".Task.Slot", Value::Text(slot)),
        ]);
        Self { values }
    }

    /// The contents of a secret or config, filled in if it is a template.
    pub(crate) fn render_data(
        &self,
        templating: Option<&Driver>,
        data: &[u8],
        payload: &Payload,
    ) -> Result<Vec<u8>, TemplateError> {
        let Some(driver) = templating else { return Ok(data.to_vec()) };
        if driver.name != GOLANG {
            return Err(TemplateError::Kind { name: driver.name.clone() });
        }
        let text = std::str::from_utf8(data).map_err(|_| TemplateError::NotText)?;
        self.render("contents", text, Some(payload)).map(String::into_bytes)
    }

    fn fill(&self, field: &str, text: &mut String) -> Result<(), TemplateError> {
        if text.contains(OPEN) {
            *text = self.render(field, text, None)?;
        }
        Ok(())
    }

    /// `payload` is there where functions may be called.
    fn render(
        &self,
        field: &str,
        template: &str,
        payload: Option<&Payload>,
    ) -> Result<String, TemplateError> {
        let mut out = String::new();
        let mut rest = template;
        while let Some((before, after)) = rest.split_once(OPEN) {
            let unclosed =
                || TemplateError::Open { field: field.to_owned(), text: template.to_owned() };
            let (inside, after) = split_close(after).ok_or_else(unclosed)?;
            let (before, inside) = match inside.strip_prefix("- ") {
                Some(inside) => (before.trim_end(), inside),
                None => (before, inside),
            };
            let (inside, after) = match inside.strip_suffix(" -") {
                Some(inside) => (inside, after.trim_start()),
                None => (inside, after),
            };
            out.push_str(before);
            let expression = inside.trim();
            match payload.and_then(|payload| payload.call(expression)) {
                Some(called) => {
                    out.push_str(&called.map_err(|reason| reason.at(field, expression))?)
                }
                None => out.push_str(&self.value_of(field, expression)?),
            }
            rest = after;
        }
        out.push_str(rest);
        Ok(out)
    }

    fn value_of(&self, field: &str, expression: &str) -> Result<String, TemplateError> {
        let owned = || (field.to_owned(), expression.to_owned());
        let unknown = || {
            let (field, expression) = owned();
            TemplateError::Unknown { field, expression }
        };
        let unsupported = || {
            let (field, expression) = owned();
            TemplateError::Expression { field, expression }
        };
        if let Some(arguments) = expression.strip_prefix("index ") {
            let (map, key) =
                arguments.trim_start().split_once(char::is_whitespace).ok_or_else(unsupported)?;
            let key = unquote(key.trim()).ok_or_else(unsupported)?;
            return match self.values.get(map) {
                // As in Go, an index that is not there is the empty string.
                Some(Value::Map(map)) => Ok(map.get(&key).cloned().unwrap_or_default()),
                _ => Err(unknown()),
            };
        }
        let is_field = expression.starts_with('.')
            && expression.chars().all(|c| c.is_alphanumeric() || c == '.' || c == '_');
        if !is_field {
            return Err(unsupported());
        }
        match self.values.get(expression) {
            Some(Value::Text(text)) => return Ok(text.clone()),
            Some(Value::Map(map)) => return Ok(go_map(map)),
            None => {}
        }
        let (parent, key) = expression.rsplit_once('.').ok_or_else(unsupported)?;
        match self.values.get(parent) {
            Some(Value::Map(map)) => map.get(key).cloned().ok_or_else(unknown),
            _ => Err(unknown()),
        }
    }
}

/// Why a function gives nothing.
enum CallError {
    Argument,
    Unknown,
    NotText,
}

impl CallError {
    fn at(self, field: &str, expression: &str) -> TemplateError {
        let (field, expression) = (field.to_owned(), expression.to_owned());
        match self {
            Self::Argument => TemplateError::Expression { field, expression },
            Self::Unknown => TemplateError::Unknown { field, expression },
            Self::NotText => TemplateError::NotText,
        }
    }
}

impl Payload {
    /// What a call gives; `None` if the expression is none.
    fn call(&self, expression: &str) -> Option<Result<String, CallError>> {
        let (function, argument) = expression.split_once(char::is_whitespace)?;
        let text = |data: &Vec<u8>| String::from_utf8(data.clone()).map_err(|_| CallError::NotText);
        let argument = unquote(argument.trim()).ok_or(CallError::Argument);
        match function {
            // As in Go, a variable that is not there is the empty string.
            "env" => Some(argument.map(|name| self.env.get(&name).cloned().unwrap_or_default())),
            "secret" | "config" => {
                let files = if function == "secret" { &self.secrets } else { &self.configs };
                Some(
                    argument
                        .and_then(|name| files.get(&name).ok_or(CallError::Unknown).and_then(text)),
                )
            }
            _ => None,
        }
    }
}

/// Splits at the first `}}` outside quotes.
fn split_close(text: &str) -> Option<(&str, &str)> {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in text.char_indices() {
        match quote {
            Some(_) if escaped => escaped = false,
            Some('"') if c == '\\' => escaped = true,
            Some(open) if c == open => quote = None,
            Some(_) => {}
            None if c == '"' || c == '`' => quote = Some(c),
            None if text[at..].starts_with(CLOSE) => {
                return Some((&text[..at], &text[at + CLOSE.len()..]));
            }
            None => {}
        }
    }
    None
}

/// The text of a Go string literal; escapes beyond JSON's are not known here.
fn unquote(literal: &str) -> Option<String> {
    if let Some(raw) = literal.strip_prefix('`') {
        return raw.strip_suffix('`').filter(|raw| !raw.contains('`')).map(str::to_owned);
    }
    serde_json::from_str(literal).ok()
}

/// A map as Go prints it.
fn go_map(map: &StringMap) -> String {
    let entries: Vec<String> = map.iter().map(|(key, value)| format!("{key}:{value}")).collect();
    format!("map[{}]", entries.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::Platform;

    fn task() -> Task {
        let mut task = Task {
            id: "taskid".into(),
            service_id: "serviceid".into(),
            node_id: "nodeid".into(),
            slot: 2,
            ..Task::default()
        };
        task.service_annotations.name = "web".to_owned();
        task.service_annotations.labels =
            [("tier", "front"), ("a.b", "dotted")].map(|(k, v)| (k.into(), v.into())).into();
        task
    }

    fn render(text: &str) -> Result<String, TemplateError> {
        let node = NodeDescription {
            hostname: "host1".to_owned(),
            platform: Platform { architecture: "x86_64".to_owned(), os: "linux".to_owned() },
            ..NodeDescription::default()
        };
        Context::of(&task(), &node).render("f", text, None)
    }

    #[test]
    fn fields_are_filled_in() {
        let table = [
            ("plain", "plain"),
            ("{{.Service.Name}}-{{.Task.Slot}}", "web-2"),
            ("{{ .Node.Hostname }}", "host1"),
            ("{{.Node.Platform.OS}}/{{.Node.Platform.Architecture}}", "linux/x86_64"),
            ("{{.Task.Name}}", "web.2.taskid"),
            ("{{.Service.Labels.tier}}", "front"),
            (r#"{{index .Service.Labels "a.b"}}"#, "dotted"),
            (r#"{{index .Service.Labels "none"}}"#, ""),
            ("{{.Service.Labels}}", "map[a.b:dotted tier:front]"),
            ("a {{- .Node.ID -}} b", "anodeidb"),
        ];
        for (template, expected) in table {
            assert_eq!(render(template).as_deref(), Ok(expected), "{template}");
        }
    }

    #[test]
    fn what_is_not_understood_is_an_error() {
        for template in ["{{.Service.Name", "{{if .X}}", "{{.Nope}}", "{{.Service.Labels.none}}"] {
            assert!(render(template).is_err(), "{template}");
        }
    }

    #[test]
    fn contents_are_filled_in_only_where_they_are_templates() {
        let context = Context::of(&task(), &NodeDescription::default());
        let golang = Driver { name: "golang".to_owned(), ..Driver::default() };
        let payload = Payload::default();
        let render = |driver, data: &[u8]| context.render_data(driver, data, &payload);
        let data = b"slot {{.Task.Slot}}";
        assert_eq!(render(None, data).as_deref(), Ok(&data[..]));
        assert_eq!(render(Some(&golang), data).as_deref(), Ok(&b"slot 2"[..]));
        assert_eq!(render(Some(&golang), b"\xff"), Err(TemplateError::NotText));
        let other = Driver { name: "jinja".to_owned(), ..Driver::default() };
        assert!(render(Some(&other), data).is_err());
    }

    #[test]
    fn contents_may_call_functions_and_nothing_else_may() {
        let context = Context::of(&task(), &NodeDescription::default());
        let payload = Payload {
            env: BTreeMap::from([("A".to_owned(), "1".to_owned())]),
            secrets: BTreeMap::from([("key".to_owned(), b"{{.Hush}}".to_vec())]),
            configs: BTreeMap::from([("bin".to_owned(), b"\xff".to_vec())]),
        };
        let render = |text: &str| context.render("contents", text, Some(&payload));
        let all = r#"{{env "A"}}{{env "B"}} {{secret "key"}} {{.Task.Slot}}"#;
        assert_eq!(render(all).as_deref(), Ok("1 {{.Hush}} 2"));
        assert_eq!(render(r#"{{config "bin"}}"#), Err(TemplateError::NotText));
        assert!(render(r#"{{config "key"}}"#).is_err());
        assert!(render("{{secret key}}").is_err());
        assert!(context.render("hostname", all, None).is_err());
    }

    #[test]
    fn a_global_task_is_told_apart_by_its_node() {
        let mut task = task();
        task.slot = 0;
        let context = Context::of(&task, &NodeDescription::default());
        assert_eq!(context.render("f", "{{.Task.Slot}}", None).as_deref(), Ok("nodeid"));
    }

    #[test]
    fn environment_hostname_and_mounts_are_expanded() {
        let mut task = task();
        task.spec.container_spec = Some(ContainerSpec {
            hostname: "{{.Service.Name}}".to_owned(),
            env: vec!["SLOT={{.Task.Slot}}".to_owned()],
            mounts: vec![Mount { source: "v-{{.Task.Slot}}".to_owned(), ..Mount::default() }],
            ..ContainerSpec::default()
        });
        let expanded = expand(&task, &NodeDescription::default()).unwrap();
        let container = expanded.spec.container_spec.as_ref().unwrap();
        assert_eq!(container.hostname, "web");
        assert_eq!(container.env, ["SLOT=2"]);
        assert_eq!(container.mounts[0].source, "v-2");
    }
}
