//! From text to component.

use std::path::Path;

use anyhow::{Context as _, Result};
use wit_component::{ComponentEncoder, DecodedWasm, StringEncoding, embed_component_metadata};
use wit_parser::{Resolve, WorldId, WorldKey};

use crate::{GUESTS, Guest, Shape};

/// The bytes of the guest of this name, as a node is given them.
///
/// # Errors
///
/// When there is no such guest, or the repository's copy of it is broken.
pub fn component(name: &str) -> Result<Vec<u8>> {
    let guest = GUESTS
        .iter()
        .find(|guest| guest.name == name)
        .with_context(|| format!("there is no hostile guest {name}"))?;
    guest.component()
}

impl Guest {
    /// Its bytes, as a node is given them.
    ///
    /// # Errors
    ///
    /// When the repository's copy of it is broken.
    pub fn component(&self) -> Result<Vec<u8>> {
        let mut bytes = wat::parse_str(self.wat).context(self.name)?;
        let Shape::World(world) = self.shape else {
            return Ok(bytes);
        };
        let (resolve, world) = resolve(world)?;
        embed_component_metadata(&mut bytes, &resolve, world, StringEncoding::UTF8)?;
        componentize(&bytes).context(self.name)
    }
}

/// Wraps a core module that carries its world, which is what cargo builds of a guest, as a component.
/// This is all that a build needs after cargo.
///
/// # Errors
///
/// When it is not a module, or lacks something that its world needs, or exports no runner. The last
/// must be asked for: a module without a world becomes a component without exports.
pub fn componentize(module: &[u8]) -> Result<Vec<u8>> {
    let component = ComponentEncoder::default()
        .validate(true)
        .module(module)?
        .encode()?;
    let (resolve, world) = decode(&component)?;
    let runner = resolve.worlds[world].exports.keys().any(|key| {
        resolve
            .name_world_key(key)
            .starts_with("hearth:task/runner@")
    });
    anyhow::ensure!(
        runner,
        "no runner is exported: is there a #[hearth::task] in the crate?"
    );
    Ok(component)
}

/// The interfaces that a component imports, as they are written in manifests, sorted.
///
/// # Errors
///
/// When the bytes are not a component.
pub fn imports(component: &[u8]) -> Result<Vec<String>> {
    let (resolve, world) = decode(component)?;
    let mut names: Vec<String> = resolve.worlds[world]
        .imports
        .keys()
        .map(|key: &WorldKey| resolve.name_world_key(key))
        .collect();
    names.sort();
    Ok(names)
}

fn resolve(world: &str) -> Result<(Resolve, WorldId)> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut resolve = Resolve::default();
    let (contract, _) = resolve.push_dir(here.join("../../wit"))?;
    let (ours, _) = resolve.push_dir(here.join("wit"))?;
    let package = if world == "task" { contract } else { ours };
    let world = resolve.select_world(&[package], Some(world))?;
    Ok((resolve, world))
}

fn decode(component: &[u8]) -> Result<(Resolve, WorldId)> {
    // The decoder takes a core module for one that only describes a world.
    anyhow::ensure!(
        component.get(4..8) == Some(&[0x0d, 0, 1, 0]),
        "not a component"
    );
    match wit_component::decode(component)? {
        DecodedWasm::Component(resolve, world) => Ok((resolve, world)),
        DecodedWasm::WitPackage(..) => anyhow::bail!("a WIT package, not a component"),
    }
}
