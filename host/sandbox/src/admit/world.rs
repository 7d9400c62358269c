//! Imports and exports against what this host has.

use wasmparser::component_types::ComponentEntityType;
use wasmparser::types::Types;
use wasmparser::{Parser, Payload};

use super::wasi::WASI;
use super::{Unfit, WorldSkew};

/// Functions of this host's own package, by interface.
const HEARTH: &[(&str, &[&str])] = &[
    ("types", &[]),
    ("context", &["get-task"]),
    ("progress", &["report", "log"]),
    ("checkpoint", &["load", "save"]),
];
const HEARTH_PACKAGE: &str = "hearth:task";
const HEARTH_VERSION: &str = "0.1.0";

/// One import of a component.
pub(super) struct Import {
    pub(super) name: String,
    functions: Vec<String>,
    instance: bool,
}

/// Everything that a component imports, in its order.
pub(super) fn imports(types: &Types, component: &[u8]) -> Result<Vec<Import>, Unfit> {
    let mut imports = Vec::new();
    for name in top_level_imports(component)? {
        let Some(item) = types.component_item_for_import(&name) else {
            continue;
        };
        let instance = matches!(item.ty, ComponentEntityType::Instance(_));
        let functions = functions_of(types, item.ty);
        imports.push(Import {
            name,
            functions,
            instance,
        });
    }
    Ok(imports)
}

pub(super) fn check(types: &Types, component: &[u8], granted: &[String]) -> Result<(), Unfit> {
    let mut skews = Vec::new();
    for import in imports(types, component)? {
        if let Err((problem, functions)) = check_import(&import, granted) {
            skews.push(WorldSkew {
                interface: import.name,
                problem,
                functions,
            });
        }
    }
    skews.extend(check_export(types, component)?);
    if skews.is_empty() {
        Ok(())
    } else {
        Err(Unfit::World(skews))
    }
}

fn check_import(import: &Import, granted: &[String]) -> Result<(), (String, Vec<String>)> {
    let all = || import.functions.clone();
    if !import.instance {
        return Err((
            "is imported alone; this host offers interfaces only".to_owned(),
            vec![import.name.clone()],
        ));
    }
    // Names of types alone give nothing to a guest.
    if import.functions.is_empty() {
        return Ok(());
    }
    let (interface, version) = import
        .name
        .split_once('@')
        .unwrap_or((import.name.as_str(), ""));
    if let Some(name) = interface
        .strip_prefix(HEARTH_PACKAGE)
        .and_then(|rest| rest.strip_prefix('/'))
    {
        if name == "deadline" {
            return Err((
                "live tasks are not run by this host: build against the world `task`".to_owned(),
                all(),
            ));
        }
        let Some((_, known)) = HEARTH.iter().find(|(known, _)| *known == name) else {
            return Err((
                format!("this host's {HEARTH_PACKAGE}@{HEARTH_VERSION} has no such interface"),
                all(),
            ));
        };
        let missing = lacking(&import.functions, known);
        if version != HEARTH_VERSION {
            return Err((
                skew(version),
                if missing.is_empty() { all() } else { missing },
            ));
        }
        if !missing.is_empty() {
            return Err((
                "this host's version of it lacks these functions: update the host or build against its WIT"
                    .to_owned(),
                missing,
            ));
        }
    } else if let Some((_, known)) = WASI.iter().find(|(known, _)| *known == interface) {
        if !version.starts_with("0.2.") {
            return Err((format!("version {version}, this host has WASI 0.2"), all()));
        }
        let missing = lacking(&import.functions, known);
        if !missing.is_empty() {
            return Err((
                "this host's WASI 0.2 lacks these functions: build the component without them"
                    .to_owned(),
                missing,
            ));
        }
    } else {
        return Err((
            "not offered to guests, which see only their input. Build without it (for WASI's \
             http and sockets: switch the feature off in the toolchain)"
                .to_owned(),
            all(),
        ));
    }
    if !granted.contains(&import.name) {
        return Err((
            "not granted by the signed manifest: sign the component again".to_owned(),
            all(),
        ));
    }
    Ok(())
}

fn lacking(wanted: &[String], known: &[&str]) -> Vec<String> {
    let lacks = |function: &&String| !known.contains(&function.as_str());
    wanted.iter().filter(lacks).cloned().collect()
}

fn skew(version: &str) -> String {
    let what = if version.is_empty() {
        "no version"
    } else {
        version
    };
    format!(
        "made for {what}, this host has {HEARTH_VERSION}: build the component against {HEARTH_PACKAGE}@\
         {HEARTH_VERSION}, or run it on a host of its version"
    )
}

/// The world's one export: `runner` with `run`.
fn check_export(types: &Types, component: &[u8]) -> Result<Option<WorldSkew>, Unfit> {
    let wanted = format!("{HEARTH_PACKAGE}/runner@{HEARTH_VERSION}");
    if let Some(item) = types.component_item_for_export(&wanted) {
        return Ok(
            if functions_of(types, item.ty)
                .iter()
                .any(|name| name == "run")
            {
                None
            } else {
                Some(WorldSkew {
                    interface: wanted,
                    problem: "exported without its function".to_owned(),
                    functions: vec!["run".to_owned()],
                })
            },
        );
    }
    let other = top_level_exports(component)?
        .into_iter()
        .find(|name| name.starts_with("hearth:task/runner@"));
    Ok(Some(match other {
        Some(interface) => {
            let version = interface.split_once('@').map_or("", |(_, version)| version);
            WorldSkew {
                problem: skew(version),
                interface,
                functions: vec!["run".to_owned()],
            }
        }
        None => WorldSkew {
            interface: wanted,
            problem: "not exported: a task exports it (`#[hearth::task]` does)".to_owned(),
            functions: vec!["run".to_owned()],
        },
    }))
}

fn functions_of(types: &Types, ty: ComponentEntityType) -> Vec<String> {
    match ty {
        ComponentEntityType::Instance(id) => types[id]
            .exports
            .iter()
            .filter(|(_, item)| matches!(item.ty, ComponentEntityType::Func(_)))
            .map(|(name, _)| name.clone())
            .collect(),
        _ => Vec::new(),
    }
}

fn top_level_imports(component: &[u8]) -> Result<Vec<String>, Unfit> {
    top_level(component, |payload, names| {
        if let Payload::ComponentImportSection(section) = payload {
            for import in section {
                names.push(import?.name.name.to_owned());
            }
        }
        Ok(())
    })
}

fn top_level_exports(component: &[u8]) -> Result<Vec<String>, Unfit> {
    top_level(component, |payload, names| {
        if let Payload::ComponentExportSection(section) = payload {
            for export in section {
                names.push(export?.name.name.to_owned());
            }
        }
        Ok(())
    })
}

/// Names that `collect` finds outside of nested modules and components.
fn top_level(
    component: &[u8],
    collect: impl Fn(Payload<'_>, &mut Vec<String>) -> wasmparser::Result<()>,
) -> Result<Vec<String>, Unfit> {
    let malformed =
        |error: wasmparser::BinaryReaderError| Unfit::Malformed(format!("component: {error}"));
    let mut names = Vec::new();
    let mut depth = 0usize;
    for payload in Parser::new(0).parse_all(component) {
        let payload = payload.map_err(malformed)?;
        match &payload {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ if depth == 0 => collect(payload, &mut names).map_err(malformed)?,
            _ => {}
        }
    }
    Ok(names)
}
