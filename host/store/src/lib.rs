//! Journal and blobs: acknowledged means on the platter.
