//! The whole product, driven by the stock `docker` client on hosts in namespaces.

mod across;
mod attachable;
mod bad_input;
mod bed;
mod containers;
mod daemon;
mod faults;
mod fixture;
mod images;
mod mesh;
mod networks;
mod reboot;
mod reports;
mod routed;
mod service_manager;
mod services;
mod several;
mod stack;
mod survival;
mod swarm_join;
mod swarm_loss;
mod swarm_mixed;
mod tls;
mod trace;
mod truth;
mod volumes;
