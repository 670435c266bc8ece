use serde_json::{Value, json as value};
use skep_types::{Service, TaskSpec};

use crate::http::{ApiResult, public_view};

/// A service as the API shows it: what the store leaves out because it is the default is written out,
/// as Docker does.
pub(super) fn service(service: &Service) -> ApiResult<Value> {
    let mut view = public_view(service)?;
    for (key, spec) in
        [("Spec", Some(&service.spec)), ("PreviousSpec", service.previous_spec.as_ref())]
    {
        let (Some(shown), Some(spec)) = (view.get_mut(key), spec) else { continue };
        for config in ["UpdateConfig", "RollbackConfig"] {
            if let Some(config) = shown.get_mut(config) {
                defaults(config, &[("FailureAction", "pause"), ("Order", "stop-first")]);
            }
        }
        if let Some(template) = shown.get_mut("TaskTemplate") {
            task_spec(template, &spec.task_template);
        }
    }
    Ok(view)
}

/// Fills the defaults of a task's spec.
pub(crate) fn task_spec(shown: &mut Value, spec: &TaskSpec) {
    if spec.container_spec.is_some() {
        defaults(shown, &[("Runtime", "container")]);
    }
    if let Some(container) = shown.get_mut("ContainerSpec") {
        defaults(container, &[("Isolation", "default")]);
    }
}

fn defaults(shown: &mut Value, defaults: &[(&str, &str)]) {
    if let Some(fields) = shown.as_object_mut() {
        for (key, text) in defaults {
            fields.entry(*key).or_insert_with(|| value!(text));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use skep_types::{ContainerSpec, FailureAction, UpdateConfig};

    #[test]
    fn spec_that_was_shown_comes_back_the_same() {
        let mut model = Service::default();
        model.spec.task_template.container_spec = Some(ContainerSpec::default());
        model.spec.update_config = Some(UpdateConfig::default());
        let mut view = service(&model).unwrap();
        assert_eq!(crate::services::create::spec(view["Spec"].take()).unwrap(), model.spec);
    }

    #[test]
    fn defaults_are_written_out() {
        let mut model = Service::default();
        model.spec.task_template.container_spec = Some(ContainerSpec::default());
        model.spec.update_config = Some(UpdateConfig {
            failure_action: FailureAction::Rollback,
            ..UpdateConfig::default()
        });
        let view = service(&model).unwrap();
        assert_eq!(view["Spec"]["UpdateConfig"]["FailureAction"], "rollback");
        assert_eq!(view["Spec"]["UpdateConfig"]["Order"], "stop-first");
        assert_eq!(view["Spec"]["TaskTemplate"]["Runtime"], "container");
        assert_eq!(view["Spec"]["TaskTemplate"]["ContainerSpec"]["Isolation"], "default");
        assert!(view["Spec"].get("RollbackConfig").is_none());
    }
}
