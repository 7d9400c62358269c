//! Lines for the task's log. They are no part of the result; hosts keep 1 KiB of a line.

use std::fmt::Display;

use crate::host;

/// How much a line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// For the author of the task.
    Debug,
    /// For the user, when all is well.
    Info,
    /// Something is not as it should be; the task goes on.
    Warn,
    /// The reason why the task is about to fail.
    Error,
}

/// Adds a line for the author of the task.
pub fn debug(message: impl Display) {
    host::log(Level::Debug, &message.to_string());
}

/// Adds a line for the user, when all is well.
pub fn info(message: impl Display) {
    host::log(Level::Info, &message.to_string());
}

/// Adds a line that says what is not as it should be.
pub fn warn(message: impl Display) {
    host::log(Level::Warn, &message.to_string());
}

/// Adds a line that says why the task is about to fail.
pub fn error(message: impl Display) {
    host::log(Level::Error, &message.to_string());
}

/// [`log::debug`](debug()) with the arguments of `format!`.
#[macro_export]
macro_rules! debug {
    ($($args:tt)*) => { $crate::log::debug(::core::format_args!($($args)*)) };
}

/// [`log::info`](info()) with the arguments of `format!`.
#[macro_export]
macro_rules! info {
    ($($args:tt)*) => { $crate::log::info(::core::format_args!($($args)*)) };
}

/// [`log::warn`](warn()) with the arguments of `format!`.
#[macro_export]
macro_rules! warn {
    ($($args:tt)*) => { $crate::log::warn(::core::format_args!($($args)*)) };
}

/// [`log::error`](error()) with the arguments of `format!`.
#[macro_export]
macro_rules! error {
    ($($args:tt)*) => { $crate::log::error(::core::format_args!($($args)*)) };
}
