//! Geometry of the celestial sphere and the two ways Skyflight cuts it into chunks.
//!
//! No Arrow, no async, no I/O: everything here is a pure function of positions.
//! Positions are ICRS degrees at the door and unit vectors inside.
