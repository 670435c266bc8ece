//! User-defined resources. A node has amounts (`ssd=2`) or named ones (`gpu=one,two`); a task asks for
//! an amount of a kind.

use std::collections::{BTreeMap, BTreeSet};

use skep_types::{DiscreteGenericResource, GenericResource, NamedGenericResource};

#[derive(Clone, Debug, Default)]
pub(crate) struct Free {
    discrete: BTreeMap<String, i64>,
    named: BTreeMap<String, BTreeSet<String>>,
}

impl Free {
    pub fn new(total: &[GenericResource]) -> Self {
        let mut free = Self::default();
        for resource in total {
            if let Some(discrete) = &resource.discrete_resource_spec {
                *free.discrete.entry(discrete.kind.clone()).or_default() += discrete.value;
            }
            if let Some(named) = &resource.named_resource_spec {
                free.named.entry(named.kind.clone()).or_default().insert(named.value.clone());
            }
        }
        free
    }

    /// Takes out what a task holds.
    pub fn remove(&mut self, held: &[GenericResource]) {
        for resource in held {
            if let Some(discrete) = &resource.discrete_resource_spec {
                *self.discrete.entry(discrete.kind.clone()).or_default() -= discrete.value;
            }
            if let Some(named) = &resource.named_resource_spec
                && let Some(values) = self.named.get_mut(&named.kind)
            {
                values.remove(&named.value);
            }
        }
    }

    /// What a task that asks for `wanted` gets; call only if it fits.
    pub fn pick(&self, wanted: &[GenericResource]) -> Vec<GenericResource> {
        let mut picked = Vec::new();
        for want in wanted.iter().filter_map(|r| r.discrete_resource_spec.as_ref()) {
            let named = self.named.get(&want.kind).filter(|values| !values.is_empty());
            if let Some(values) = named {
                let count = usize::try_from(want.value).unwrap_or(0);
                picked.extend(values.iter().take(count).map(|value| GenericResource {
                    named_resource_spec: Some(NamedGenericResource {
                        kind: want.kind.clone(),
                        value: value.clone(),
                    }),
                    discrete_resource_spec: None,
                }));
            } else {
                picked.push(GenericResource {
                    named_resource_spec: None,
                    discrete_resource_spec: Some(DiscreteGenericResource {
                        kind: want.kind.clone(),
                        value: want.value,
                    }),
                });
            }
        }
        picked
    }
}

pub(crate) fn fits(free: &Free, wanted: &[GenericResource]) -> bool {
    wanted.iter().filter_map(|r| r.discrete_resource_spec.as_ref()).all(|want| {
        let named = free.named.get(&want.kind).map_or(0, BTreeSet::len);
        let named = i64::try_from(named).unwrap_or(i64::MAX);
        want.value <= named || want.value <= free.discrete.get(&want.kind).copied().unwrap_or(0)
    })
}
