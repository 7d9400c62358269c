//! Connects, leases, spreads work over runners, reports. Keys and network, no Wasm in its process.
