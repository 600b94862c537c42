//! Whether a session's rows come through the coordinator or from the workers.

use std::str::FromStr;

/// How many endpoints a query may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum EndpointMode {
    /// At the workers for clients that are known to follow locations, where it is worth it.
    #[default]
    Auto,
    /// One, at the coordinator.
    Single,
    /// At the workers wherever the rows are theirs, however few.
    Direct,
}

/// The text is none of the modes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("endpoints are auto, single or direct")]
pub struct UnknownEndpointMode;

impl EndpointMode {
    /// The word for it.
    pub fn name(self) -> &'static str {
        match self {
            EndpointMode::Auto => "auto",
            EndpointMode::Single => "single",
            EndpointMode::Direct => "direct",
        }
    }
}

impl FromStr for EndpointMode {
    type Err = UnknownEndpointMode;

    fn from_str(text: &str) -> Result<Self, UnknownEndpointMode> {
        let modes = [EndpointMode::Auto, EndpointMode::Single, EndpointMode::Direct];
        modes.into_iter().find(|mode| text.eq_ignore_ascii_case(mode.name())).ok_or(UnknownEndpointMode)
    }
}
