//! The #[hearth::task] attribute.
