//! Scenarios: small worlds in which every effect of every step is expected.

mod checkpoints;
mod jobs;
mod leases;
mod merge;
mod modes;
mod nodes;
mod order;
mod placement;
mod retries;
mod shares;
mod snapshots;
mod trust;
mod world;
