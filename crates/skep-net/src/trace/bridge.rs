//! Which way a bridge sends a packet: what its forwarding table has for the Ethernet address.
//!
//! As the kernel does it (`br_handle_frame_finish`, `br_dev_xmit`): an entry decides alone; without one the
//! packet goes to all ports, and whoever has the address takes it. An entry for an address of the bridge's own
//! keeps what comes in over a port for the bridge's namespace; what that namespace itself sends goes to the
//! entry's port.

use super::live::{Entry, Live, LiveLink};
use super::report::{Outcome, Reason};
use super::walk::{Stop, Walker};
use crate::cidr::Mac;
use std::net::Ipv4Addr;

/// The next hop as the sender of a packet knows it.
#[derive(Debug, Clone, Copy)]
pub struct Next {
    pub address: Ipv4Addr,
    /// Its Ethernet address; `None` while the sender would have to ask.
    pub mac: Option<Mac>,
}

impl Walker<'_> {
    /// Whether a bridge sends a packet for `next` to the link that leads there: the port, or the bridge itself
    /// for an address of its own. With the bridge, whether the packet came in over a port; with the link, the
    /// Ethernet address of who has `next`.
    pub fn forwarded(
        &self,
        live: &Live,
        (bridge, from_port): (&LiveLink, bool),
        next: Next,
        (right, own): (&LiveLink, Option<Mac>),
    ) -> Result<(), Stop> {
        let Some(mac) = next.mac.or(own) else { return Ok(()) };
        let differs = |text| Err(self.end(Outcome::Dropped, Reason::EntryDiffers, text));
        let address = next.address;
        if let Some(own) = own.filter(|own| *own != mac) {
            return differs(format!(
                "the sender's neighbour entry for {address} has {mac}, but {address} is at {own}"
            ));
        }
        let to_bridge = right.index == bridge.index;
        let should = if to_bridge {
            format!("to {} itself", bridge.name)
        } else {
            format!("to port {}", right.name)
        };
        let Some(entry) = live.switching(bridge.index, mac) else {
            // Flooding leaves the bridge itself out.
            return if to_bridge {
                differs(format!(
                    "bridge {} has no entry for its own {mac} ({address}), which should lead {should}",
                    bridge.name
                ))
            } else {
                Ok(())
            };
        };
        let kept = entry.entry == Entry::Own && from_port;
        let leads = if to_bridge { kept } else { !kept && entry.port == right.index };
        // A port's entry yields where the sender still has to ask: the answer comes in over the right port
        // and moves it there first.
        let yields = next.mac.is_none() && !to_bridge && !entry.sticky && entry.entry != Entry::Own;
        if leads || yields {
            return Ok(());
        }
        let to = match live.link_at(entry.port) {
            Some(port) if !kept && port.index != bridge.index => format!("to port {}", port.name),
            _ => format!("to {} itself", bridge.name),
        };
        let kind = if entry.entry == Entry::Learnt { "learnt" } else { "lasting" };
        differs(format!(
            "a {kind} entry of bridge {} leads {mac} ({address}) {to}, not {should}",
            bridge.name
        ))
    }
}
