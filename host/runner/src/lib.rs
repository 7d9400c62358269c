//! The keyless, netless process in which components are compiled and run.
