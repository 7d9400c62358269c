//! Static checks before anything is compiled: size, counts, imports, exports.

pub(crate) mod wasi;
mod world;

use std::fmt::Write as _;

use hearth_wire::{TaskLimits, limits};
use wasmparser::types::Types;
use wasmparser::{Parser, Payload, ValidPayload, Validator};

use crate::{engine, rules};

/// A component that passed [`admit`]. Only these are compiled.
#[derive(Debug, Clone, Copy)]
pub struct Admitted<'a> {
    bytes: &'a [u8],
}

impl<'a> Admitted<'a> {
    /// The component.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }
}

/// One interface of a component that does not fit this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WorldSkew {
    /// The interface as the component names it: `wasi:http/types@0.2.0`.
    pub interface: String,
    /// Why it cannot be had, and what to do.
    pub problem: String,
    /// Functions of it that the component wants or has, and that do not fit.
    pub functions: Vec<String>,
}

/// The component may not run here. Its author is to blame; the text says why and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unfit {
    /// Not WebAssembly, or broken, or of a kind that is not run here.
    #[error("{0}")]
    Malformed(String),
    /// A core module where a component is wanted.
    #[error(
        "this is a core module, not a component: make one of it with `hearth task build` or \
         `wasm-tools component new`"
    )]
    CoreModule,
    /// Something in it is larger or more than is allowed.
    #[error("{what}: {got}, at most {max} allowed")]
    TooLarge {
        /// What was counted.
        what: &'static str,
        /// How much there is.
        got: u64,
        /// How much is allowed.
        max: u64,
    },
    /// It imports what it was not granted or what this host does not have, or exports too little.
    #[error("{}", skew_text(.0))]
    World(Vec<WorldSkew>),
}

fn skew_text(skews: &[WorldSkew]) -> String {
    let mut text = String::from("the component does not fit this host's world:");
    for skew in skews {
        let _ = write!(text, "\n  {}: {}", skew.interface, skew.problem);
        for function in &skew.functions {
            let _ = write!(text, "\n    - {function}");
        }
    }
    text
}

/// Checks size, static counts, imports and exports of `component`, without compiling it.
///
/// `imports` are the interfaces that the manifest grants.
///
/// # Errors
///
/// [`Unfit`], with every function that it wanted in vain.
pub fn admit<'a>(
    component: &'a [u8],
    imports: &[String],
    limits: &TaskLimits,
) -> Result<Admitted<'a>, Unfit> {
    let types = validate(component, limits)?;
    world::check(&types, component, imports)?;
    Ok(Admitted { bytes: component })
}

/// The interfaces that a component imports, sorted: what an author's manifest has to list.
///
/// # Errors
///
/// [`Unfit`] if it is not a component, or wants what no host gives.
pub fn imports_of(component: &[u8]) -> Result<Vec<String>, Unfit> {
    // Sizes against the largest limits that any manifest may have.
    let types = validate(
        component,
        &TaskLimits {
            memory_bytes: limits::MEMORY_BYTES_MAX,
            table_elements: rules::TABLE_ELEMENTS_MAX,
            ..TaskLimits::default()
        },
    )?;
    let imports = world::imports(&types, component)?;
    let mut names: Vec<String> = imports.into_iter().map(|import| import.name).collect();
    names.sort();
    Ok(names)
}

/// Static counts, over all nested modules and components.
#[derive(Default)]
struct Counts {
    functions: u64,
    globals: u64,
    segments: u64,
    types: u64,
    core_instances: u64,
    instances: u64,
    memories: u64,
    tables: u64,
    memory_bytes: u64,
    table_elements: u64,
}

impl Counts {
    fn check(&self, limits: &TaskLimits) -> Result<(), Unfit> {
        // One row per bound. The numbers are several times those of the largest honest components
        // known (JavaScript and Python interpreters), and keep the state of an instance below what the
        // pool holds.
        let rows = [
            ("functions", self.functions, 200_000),
            ("globals", self.globals, 100_000),
            ("data and element segments", self.segments, 100_000),
            ("types", self.types, 200_000),
            (
                "core instances",
                self.core_instances,
                rules::CORE_INSTANCES_MAX.into(),
            ),
            ("component instances", self.instances, 64),
            ("memories", self.memories, rules::MEMORIES_MAX.into()),
            ("tables", self.tables, rules::TABLES_MAX.into()),
            (
                "initial memory in bytes",
                self.memory_bytes,
                limits.memory_bytes,
            ),
            (
                "initial table elements",
                self.table_elements,
                limits.table_elements.into(),
            ),
        ];
        match rows.into_iter().find(|(_, got, max)| got > max) {
            Some((what, got, max)) => Err(Unfit::TooLarge { what, got, max }),
            None => Ok(()),
        }
    }

    fn add(&mut self, payload: &Payload<'_>) {
        match payload {
            Payload::TypeSection(section) => self.types += u64::from(section.count()),
            Payload::ComponentTypeSection(section) => self.types += u64::from(section.count()),
            Payload::CoreTypeSection(section) => self.types += u64::from(section.count()),
            Payload::FunctionSection(section) => self.functions += u64::from(section.count()),
            Payload::GlobalSection(section) => self.globals += u64::from(section.count()),
            Payload::DataSection(section) => self.segments += u64::from(section.count()),
            Payload::ElementSection(section) => self.segments += u64::from(section.count()),
            Payload::InstanceSection(section) => self.core_instances += u64::from(section.count()),
            Payload::ComponentInstanceSection(section) => {
                self.instances += u64::from(section.count());
            }
            Payload::MemorySection(section) => {
                for memory in section.clone().into_iter().flatten() {
                    self.memories += 1;
                    let bytes = memory.initial.saturating_mul(64 << 10);
                    self.memory_bytes = self.memory_bytes.saturating_add(bytes);
                }
            }
            Payload::TableSection(section) => {
                for table in section.clone().into_iter().flatten() {
                    self.tables += 1;
                    self.table_elements = self.table_elements.saturating_add(table.ty.initial);
                }
            }
            _ => {}
        }
    }
}

/// Validates all but function bodies (the compiler does those) and counts.
fn validate(component: &[u8], limits: &TaskLimits) -> Result<Types, Unfit> {
    let bytes = component.len() as u64;
    if bytes > limits::COMPONENT_BYTES_MAX {
        return Err(Unfit::TooLarge {
            what: "component bytes",
            got: bytes,
            max: limits::COMPONENT_BYTES_MAX,
        });
    }
    if !component.starts_with(b"\0asm") {
        return Err(Unfit::Malformed(
            "this is not WebAssembly: give the path of a `.wasm` component".to_owned(),
        ));
    }
    if Parser::is_core_wasm(component) {
        return Err(Unfit::CoreModule);
    }

    let malformed = |error: wasmparser::BinaryReaderError| {
        Unfit::Malformed(format!(
            "not a component that this host can run: {error}. Allowed are WebAssembly 2.0, tail calls and \
             the synchronous component model"
        ))
    };
    let mut counts = Counts::default();
    let mut validator = Validator::new_with_features(engine::FEATURES);
    let mut types = None;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(malformed)?;
        counts.add(&payload);
        // Counted as it goes, so that no step works on more than is allowed.
        counts.check(limits)?;
        if let ValidPayload::End(ended) = validator.payload(&payload).map_err(malformed)? {
            // Nested ones end before the outermost.
            types = Some(ended);
        }
    }
    types.ok_or_else(|| Unfit::Malformed("the component ends early".to_owned()))
}
