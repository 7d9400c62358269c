//! The shell around core: accept, drive, follow, serve. Links no Wasm engine.
