//! Taking names and images away, with Docker's rules about what is in use.
//!
//! Source of the rules: moby, `daemon/images/image_delete.go` and `image_prune.go`.

use super::{Images, Inner, files::is_there, register::is_full, state::State, sweep::Swept};
use crate::{
    digest::ImageId,
    error::{Conflict, Error, Result},
    image::{ImageUser, PruneFilter, PruneReport, RemoveOptions, Removed},
    reference::Reference,
};

type Users<'a> = dyn Fn(&ImageId) -> Vec<ImageUser> + 'a;

/// What one removal did so far.
#[derive(Default)]
struct Done {
    removed: Vec<Removed>,
    reclaimed: u64,
}

impl Done {
    fn note(&mut self, swept: &Swept) {
        for (chain, size) in &swept.layers {
            self.removed.push(Removed::Deleted(chain.to_string()));
            self.reclaimed += size;
        }
    }
}

impl Images {
    /// `docker rmi`: takes a name off and removes the image with its last one; an id removes the
    /// image if it has names in one repository at most. What it leaves without a user goes too.
    ///
    /// `users` tells which containers use an image. It is called on a blocking thread, with the
    /// store's names locked: it must not change images.
    ///
    /// # Errors
    /// [`Error::Conflict`] if it is needed, [`Error::NoSuchImage`]. Names taken off before a
    /// failure stay off.
    pub async fn remove<F>(
        &self,
        name: &str,
        options: RemoveOptions,
        users: F,
    ) -> Result<Vec<Removed>>
    where
        F: Fn(&ImageId) -> Vec<ImageUser> + Send + 'static,
    {
        let name = name.to_owned();
        self.blocking(move |inner| {
            let mut done = Done::default();
            inner.remove(&name, options, &users, &mut done)?;
            Ok(done.removed)
        })
        .await
    }

    /// `docker image prune`: removes images that no container uses, running or not; unless the filter asks
    /// for more, also what belongs to no image that is known.
    ///
    /// # Errors
    /// When the store cannot be written, [`Conflict::NamesLost`]; images that turn out to be needed are
    /// left.
    pub async fn prune<F>(&self, filter: PruneFilter, users: F) -> Result<PruneReport>
    where
        F: Fn(&ImageId) -> Vec<ImageUser> + Send + 'static,
    {
        self.blocking(move |inner| inner.prune(&filter, &users)).await
    }
}

impl Inner {
    fn prune(&self, filter: &PruneFilter, users: &Users<'_>) -> Result<PruneReport> {
        let mut done = Done::default();
        if let Some(path) = self.state().lost_names.clone().filter(|path| is_there(path)) {
            return Err(Conflict::NamesLost { path }.into());
        }
        let candidates: Vec<ImageId> = {
            let state = self.state();
            let fits = |id: &ImageId| {
                let Some(record) = state.images.get(id) else { return false };
                let named = state.names_of(id).next().is_some();
                let kept = (filter.dangling && named) || state.has_children(id);
                // What cannot be read goes only when it is named.
                !kept
                    && state.damage_of(record).is_none()
                    && filter
                        .until
                        .is_none_or(|until| record.config.created_at().is_some_and(|t| t < until))
                    && filter.labels.iter().all(|label| label.fits(|key| record.config.label(key)))
                    && !filter
                        .without_labels
                        .iter()
                        .any(|label| label.fits(|key| record.config.label(key)))
            };
            state.images.keys().filter(|id| fits(id)).copied().collect()
        };
        for id in candidates {
            if !users(&id).is_empty() {
                continue;
            }
            let mut names: Vec<String> =
                self.state().names_of(&id).map(Reference::to_string).collect();
            // Tags first; the digests of a repository go with its last tag.
            names.sort_by_key(|name| name.contains('@'));
            if names.is_empty() {
                names.push(id.to_string());
            }
            for name in names {
                match self.remove(&name, RemoveOptions::default(), users, &mut done) {
                    Ok(()) | Err(Error::NoSuchImage(_) | Error::Conflict(_)) => {}
                    Err(error) => return Err(error),
                }
            }
        }
        if filter.until.is_none() && filter.labels.is_empty() && filter.without_labels.is_empty() {
            let _commit = self.committing();
            let swept = self.state().sweep_unclaimed(&self.files);
            done.note(&swept);
            swept.remove();
        }
        Ok(PruneReport { removed: done.removed, reclaimed: done.reclaimed })
    }

    fn remove(
        &self,
        name: &str,
        options: RemoveOptions,
        users: &Users<'_>,
        done: &mut Done,
    ) -> Result<()> {
        let _commit = self.committing();
        let (id, names) = {
            let state = self.state();
            let id = state.find(name)?.id;
            let names: Vec<Reference> = state.names_of(&id).cloned().collect();
            (id, names)
        };
        let by_id = id.to_string().starts_with(name) || id.hex().starts_with(name);
        let by_id = by_id && !self.is_name_of(name, &id);
        if by_id {
            if in_one_repository(&names) {
                self.check(&id, options.force, false, users)?;
                self.untag(&names, done)?;
            }
            return self.delete(id, options, false, users, done);
        }
        if !options.force
            && in_one_repository(&names)
            && let Some(user) = users(&id).first()
        {
            return Err(Conflict::ReferenceInUse {
                reference: name.into(),
                container: short(&user.container),
                image: id.short(),
            }
            .into());
        }
        let given = Reference::parse(name)?;
        let given = match given.digest() {
            Some(digest) => given.with_digest(*digest),
            None => given.tagged(),
        };
        let mut off = vec![given.clone()];
        let others =
            || names.iter().filter(|other| **other != given && other.name() == given.name());
        if given.digest().is_none() && others().all(|other| other.digest().is_some()) {
            off.extend(others().cloned());
        }
        self.untag(&off, done)?;
        if names.iter().any(|name| !off.contains(name)) {
            return Ok(());
        }
        self.delete(id, options, true, users, done)
    }

    /// A name made of hexadecimal digits wins over an id that starts like it.
    fn is_name_of(&self, name: &str, id: &ImageId) -> bool {
        let reference = Reference::parse(name).map(Reference::tagged);
        reference.is_ok_and(|reference| self.state().names.get(&reference) == Some(id))
    }

    /// Removes an image, then its parents as long as nothing else needs them. With `quiet`, a
    /// conflict about use ends it without an error: taking the name off was what was asked for.
    fn delete(
        &self,
        id: ImageId,
        options: RemoveOptions,
        quiet: bool,
        users: &Users<'_>,
        done: &mut Done,
    ) -> Result<()> {
        let (mut next, mut force, mut quiet) = (Some(id), options.force, quiet);
        while let Some(id) = next {
            let names: Vec<Reference> = self.state().names_of(&id).cloned().collect();
            match self.check(&id, force, true, users) {
                Err(Error::Conflict(_))
                    if quiet && (!names.is_empty() || !users(&id).is_empty()) =>
                {
                    return Ok(());
                }
                other => other?,
            }
            self.untag(&names, done)?;
            let parent = self.state().images.get(&id).and_then(|record| record.file.parent);
            self.unregister(&id)?;
            done.removed.push(Removed::Deleted(id.to_string()));
            let swept = self.state().sweep(&self.files);
            swept.remove();
            done.note(&swept);
            let known = |parent: &ImageId| self.state().images.contains_key(parent);
            next = parent.filter(|parent| !options.keep_parents && known(parent));
            (force, quiet) = (false, true);
        }
        Ok(())
    }

    fn untag(&self, names: &[Reference], done: &mut Done) -> Result<()> {
        let mut all = self.state().names.clone();
        let gone: Vec<&Reference> =
            names.iter().filter(|name| all.remove(name).is_some()).collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.reserve.for_removal(is_full, || self.write_names(all.clone()))?;
        done.removed.extend(gone.into_iter().map(|name| Removed::Untagged(name.familiar())));
        Ok(())
    }

    /// Refuses when somebody needs the image.
    fn check(&self, id: &ImageId, force: bool, names_count: bool, users: &Users<'_>) -> Result<()> {
        let conflict =
            |hard, reason: String| Err(Conflict::Image { image: id.short(), hard, reason }.into());
        let users = users(id);
        let state: &State = &self.state();
        if state.has_children(id) {
            return conflict(true, "image has dependent child images".into());
        }
        if let Some(user) = users.iter().find(|user| user.running) {
            return conflict(
                true,
                format!("image is being used by running container {}", short(&user.container)),
            );
        }
        if force {
            return Ok(());
        }
        if names_count && state.names_of(id).next().is_some() {
            return conflict(false, "image is referenced in multiple repositories".into());
        }
        if let Some(user) = users.first() {
            return conflict(
                false,
                format!("image is being used by stopped container {}", short(&user.container)),
            );
        }
        Ok(())
    }
}

/// At most one tag, and everything in one repository.
fn in_one_repository(names: &[Reference]) -> bool {
    let tags = names.iter().filter(|name| name.digest().is_none()).count();
    tags <= 1 && names.windows(2).all(|pair| pair[0].name() == pair[1].name())
}

fn short(container: &str) -> String {
    container.chars().take(12).collect()
}
