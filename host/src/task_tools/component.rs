//! From a core module to a component, and what a component says about itself.

use hearth_sandbox::Unfit;
use hearth_wire::{TaskLimits, limits};
use wit_component::{ComponentEncoder, DecodedWasm};

use super::ToolError;

const MODULE: &[u8] = b"\0asm\x01\0\0\0";
const WASM: &[u8] = b"\0asm";
const RUNNER: &str = "hearth:task/runner@";

/// Whether the bytes are WebAssembly of any kind.
pub(super) fn is_wasm(bytes: &[u8]) -> bool {
    bytes.starts_with(WASM)
}

/// A component of what a toolchain made: as it is, or wrapped if it is a core module that carries its
/// world, as wit-bindgen leaves it.
pub(super) fn of_module(bytes: Vec<u8>) -> Result<Vec<u8>, ToolError> {
    if !bytes.starts_with(MODULE) {
        return Ok(bytes);
    }
    let encoded = ComponentEncoder::default()
        .validate(true)
        .module(&bytes)
        .and_then(|mut encoder| encoder.encode());
    let component = encoded.map_err(|error| ToolError::Encode(explain(&format!("{error:#}"))))?;
    // A module without a world becomes a component without exports, and nobody would say so.
    let runner =
        exports(&component).is_some_and(|names| names.iter().any(|name| name.starts_with(RUNNER)));
    if !runner {
        return Err(ToolError::Encode(
            "nothing in it can be run: write `#[hearth::task]` on the task's function".to_owned(),
        ));
    }
    Ok(component)
}

/// What the encoder's words mean for an author.
fn explain(error: &str) -> String {
    let hint = if error.contains("__wbindgen") {
        "a dependency wants JavaScript: turn off its features for browsers (`js`, `wasm-bindgen`, `wasmbind`)"
    } else if error.contains("`env`") || error.contains("\"env\"") {
        "a dependency calls C or system functions that do not exist in a guest: replace it"
    } else {
        "see which dependency wants it, and turn that off or replace it"
    };
    format!("the module wants what the contract does not have: {error}\n{hint}")
}

/// The interfaces that a component imports, if it is one that nodes take.
pub(super) fn imports(component: &[u8]) -> Result<Vec<String>, Unfit> {
    hearth_sandbox::imports_of(component)
}

/// The interfaces that a component imports, whether or not nodes have them. Empty if it cannot be read.
pub(super) fn wanted(component: &[u8]) -> Vec<String> {
    names(component, Side::Imports).unwrap_or_default()
}

fn exports(component: &[u8]) -> Option<Vec<String>> {
    names(component, Side::Exports)
}

#[derive(Clone, Copy)]
enum Side {
    Imports,
    Exports,
}

fn names(component: &[u8], side: Side) -> Option<Vec<String>> {
    if component.len() as u64 > limits::COMPONENT_BYTES_MAX || component.starts_with(MODULE) {
        return None;
    }
    let DecodedWasm::Component(resolve, world) = wit_component::decode(component).ok()? else {
        return None;
    };
    let world = &resolve.worlds[world];
    let items = match side {
        Side::Imports => &world.imports,
        Side::Exports => &world.exports,
    };
    let mut names: Vec<String> = items
        .keys()
        .map(|key| resolve.name_world_key(key))
        .collect();
    names.sort();
    Some(names)
}

/// Whether nodes would take the component with these imports and limits.
pub(super) fn admit(
    component: &[u8],
    imports: &[String],
    limits: &TaskLimits,
) -> Result<(), Unfit> {
    hearth_sandbox::admit(component, imports, limits).map(|_| ())
}
