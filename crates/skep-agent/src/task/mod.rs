//! One task's life on this node: [`step`] decides, [`runner`] does.

mod runner;
mod step;

pub(crate) use runner::{Ended, Order, Runner, TaskEntry};
