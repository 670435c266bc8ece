//! The whole product, driven by the stock `docker` client on hosts in namespaces.

mod attachable;
mod bad_input;
mod bed;
mod containers;
mod daemon;
mod fixture;
mod images;
mod mesh;
mod networks;
mod reports;
mod services;
mod stack;
mod survival;
mod truth;
mod volumes;
