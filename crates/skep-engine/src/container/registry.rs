//! All containers of the host, by id and by name.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use super::cell::Container;
use super::names;
use crate::error::{EngineError, Result};

/// How often a free generated name is looked for.
const NAME_ATTEMPTS: u32 = 16;

/// Containers by id, and who has which name. A name is reserved before its container is there.
#[derive(Debug, Default)]
pub struct Registry {
    tables: RwLock<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    by_id: BTreeMap<String, Arc<Container>>,
    /// Name to id; the id may not (yet) be in `by_id`.
    names: HashMap<String, String>,
}

impl Registry {
    fn write<T>(&self, f: impl FnOnce(&mut Tables) -> T) -> T {
        f(&mut self.tables.write().unwrap_or_else(PoisonError::into_inner))
    }

    fn read<T>(&self, f: impl FnOnce(&Tables) -> T) -> T {
        f(&self.tables.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Reserves a name, or a generated one, for a container about to be made.
    ///
    /// # Errors
    /// `NameInUse`.
    pub fn reserve(&self, name: Option<&str>, id: &str) -> Result<String> {
        match name {
            Some(name) => self.write(|t| t.take(name, id)).map(|()| name.to_owned()),
            None => (0..NAME_ATTEMPTS)
                .map(names::generate)
                .find(|name| self.write(|t| t.take(name, id)).is_ok())
                .ok_or_else(|| {
                    EngineError::Conflict(
                        "no free container name found: give one with --name".into(),
                    )
                }),
        }
    }

    /// Gives a reserved name back.
    pub fn release(&self, name: &str, id: &str) {
        self.write(|t| {
            if t.names.get(name).is_some_and(|holder| holder == id) {
                t.names.remove(name);
            }
        });
    }

    /// Adds a container; its name is taken along.
    pub fn insert(&self, container: Arc<Container>) {
        let name = container.name();
        self.write(|t| {
            t.names.insert(name, container.id.clone());
            t.by_id.insert(container.id.clone(), container);
        });
    }

    /// Forgets a container and its name.
    pub fn remove(&self, id: &str) {
        self.write(|t| {
            t.by_id.remove(id);
            t.names.retain(|_, holder| holder != id);
        });
    }

    /// Finds a container by full id, name (with or without slash), or unique id prefix.
    ///
    /// # Errors
    /// `NoSuchContainer`, `AmbiguousContainer`; `ContainerDamaged` for one whose record cannot be read.
    pub fn find(&self, reference: &str) -> Result<Arc<Container>> {
        let found = self.find_any(reference)?;
        if found.is_damaged() {
            let (name, reason) = found.read(|r| (r.name.clone(), r.state.error.clone()));
            return Err(EngineError::ContainerDamaged { name, reason });
        }
        Ok(found)
    }

    /// The same for who only looks, or removes: damaged ones are found, too.
    ///
    /// # Errors
    /// `NoSuchContainer`, `AmbiguousContainer`.
    pub fn find_any(&self, reference: &str) -> Result<Arc<Container>> {
        if reference.is_empty() {
            return Err(EngineError::invalid("invalid container name or ID: value is empty"));
        }
        let name = reference.strip_prefix('/').unwrap_or(reference);
        self.read(|t| {
            if let Some(found) = t.by_id.get(reference) {
                return Ok(found.clone());
            }
            if let Some(found) = t.names.get(name).and_then(|id| t.by_id.get(id)) {
                return Ok(found.clone());
            }
            let mut matches = t
                .by_id
                .range(reference.to_owned()..)
                .map(|(_, c)| c)
                .take_while(|c| c.id.starts_with(reference));
            match (matches.next(), matches.next()) {
                (Some(found), None) => Ok(found.clone()),
                (None, _) => Err(EngineError::NoSuchContainer(reference.to_owned())),
                _ => Err(EngineError::AmbiguousContainer(reference.to_owned())),
            }
        })
    }

    /// All containers, in no order that means anything.
    pub fn all(&self) -> Vec<Arc<Container>> {
        self.read(|t| t.by_id.values().cloned().collect())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.read(|t| t.by_id.len())
    }
}

impl Tables {
    fn take(&mut self, name: &str, id: &str) -> Result<()> {
        match self.names.get(name) {
            Some(holder) => {
                Err(EngineError::NameInUse { name: format!("/{name}"), holder: holder.clone() })
            }
            None => {
                self.names.insert(name.to_owned(), id.to_owned());
                Ok(())
            }
        }
    }
}
