//! TLS, WebSocket and HTTP plumbing shared by both ends.
