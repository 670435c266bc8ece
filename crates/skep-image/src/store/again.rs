//! Reading again what could not be read when the store was opened: its user may have repaired it meanwhile.

use std::sync::{Arc, MutexGuard};

use super::{
    Inner,
    image::read_image,
    open::{read_layer, read_parent},
    state::State,
};

impl Inner {
    /// What is in the store, for who looks for something: what could not be read is read again first. That is
    /// nothing while all is well, else some small files.
    pub(crate) fn looked_again(&self) -> MutexGuard<'_, State> {
        let mut state = self.state();
        for id in state.damaged.keys().copied().collect::<Vec<_>>() {
            match read_layer(&self.files, &id) {
                Ok(layer) => {
                    tracing::info!(layer = %id, "a layer was repaired");
                    state.damaged.remove(&id);
                    state.layers.insert(id, Arc::new(layer));
                }
                Err(error) => _ = state.damaged.insert(id, error.report()),
            }
        }
        for container in state.lost_rw.iter().cloned().collect::<Vec<_>>() {
            if let Some(top) = read_parent(&self.files, &container) {
                tracing::info!(container, "what a container lies on was repaired");
                state.lost_rw.remove(&container);
                state.rw.insert(container, top);
            }
        }
        let damaged = state.images.values().filter(|record| record.damage.is_some());
        for (id, file) in damaged.map(|r| (r.id, r.file.clone())).collect::<Vec<_>>() {
            if let Ok(record) = read_image(&self.files, &state, id, file) {
                tracing::info!(image = %id, "an image was repaired");
                state.images.insert(id, Arc::new(record));
            }
        }
        state
    }
}
