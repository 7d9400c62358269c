//! The author's way: new, build, check, sign, in folders that know nothing of the repository.

mod crates;
mod files;
