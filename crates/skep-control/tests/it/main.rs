//! The control core from outside: each file shows one behaviour, `chaos` all of them together under
//! random events with invariants after every log entry.

mod addresses;
mod allocation;
mod chaos;
mod deletion;
mod global;
mod jobs;
mod networks;
mod nodes;
mod placement;
mod refused;
mod restart;
mod scale;
mod secrets;
mod service_admission;
mod sim;
mod speed;
mod store;
mod update;
