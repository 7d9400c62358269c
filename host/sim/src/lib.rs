//! Simulates hundreds of nodes and a bad network against the real core.
