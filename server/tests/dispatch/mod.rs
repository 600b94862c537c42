//! The dispatcher against workers that misbehave.
