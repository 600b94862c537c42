//! The promises of the wire: every message survives the trip, every altered ticket is refused, and
//! no bytes whatever bring a process down.
#![expect(clippy::unwrap_used, clippy::panic, reason = "tests")]
#![allow(unreachable_pub, reason = "strategies are shared within the tests")]

mod key_file;
mod messages;
mod strategies;
mod tickets;
mod tokens;
