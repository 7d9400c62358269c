//! Admits, compiles and runs components in wasmtime.
