//! Tests over real sockets, with certificates from a real realm and nodes that follow a script.

mod checkpoints;
mod collect;
mod end_to_end;
mod hostile;
mod index;
mod jobs;
mod local;
mod lost;
mod members;
mod offline;
mod releases;
mod restart;
mod room;
mod scrub;
mod snapshots;
mod support;
