//! The coordinator's decisions: pure, deterministic, fed with events and time.
