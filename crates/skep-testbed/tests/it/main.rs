//! The whole product, driven by the stock `docker` client on hosts in namespaces.

#![allow(clippy::disallowed_methods, reason = "tests make files as they like")]

mod across;
mod addresses;
mod attachable;
mod bad_input;
mod bed;
mod containers;
mod crowd;
mod daemon;
mod damage;
mod faults;
mod fixture;
mod full_disk;
mod images;
mod impostors;
mod mesh;
mod neighbours;
mod networks;
mod private;
mod reboot;
mod reports;
mod routed;
mod routes;
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
