//! Compiled components on disk, sealed with a key of this node.
