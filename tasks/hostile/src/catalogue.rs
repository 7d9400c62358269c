//! The list of guests.

/// A guest that misbehaves.
#[derive(Debug, Clone, Copy)]
pub struct Guest {
    /// What it does, in kebab-case.
    pub name: &'static str,
    /// Its text; the comment at the top says what it does and what must come of it.
    pub wat: &'static str,
    /// How its text becomes the bytes that a node is given.
    pub shape: Shape,
    /// What must come of it.
    pub expected: Expected,
}

/// How a guest's text becomes the bytes that a node is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A core module, wrapped as a component of this world (see `wit/worlds.wit` of this crate).
    World(&'static str),
    /// As it is.
    Bare,
}

/// What must come of a guest. The words are those of the outcome of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Returned with this body: what it did has changed nothing.
    Returned(&'static [u8]),
    /// Refused as `Failed`, with at most 4 KiB of its text.
    RefusedFailed,
    /// Exhausted: `Fuel`, `Memory` or `Output`.
    Exhausted(&'static str),
    /// Trapped: the name of the kind.
    Trapped(&'static str),
    /// Inconclusive, because the native stack ended.
    StackOverflow,
    /// Inconclusive, because it cannot be run, whatever its input is.
    Unfit {
        /// What the refusal must name.
        names: Option<&'static str>,
    },
}

const fn guest(name: &'static str, wat: &'static str, shape: Shape, expected: Expected) -> Guest {
    Guest {
        name,
        wat,
        shape,
        expected,
    }
}

/// All of them.
pub const GUESTS: &[Guest] = &[
    guest(
        "endless-loop",
        include_str!("../endless-loop.wat"),
        Shape::World("task"),
        Expected::Exhausted("Fuel"),
    ),
    guest(
        "loop-in-start",
        include_str!("../loop-in-start.wat"),
        Shape::World("task"),
        Expected::Exhausted("Fuel"),
    ),
    guest(
        "loop-in-realloc",
        include_str!("../loop-in-realloc.wat"),
        Shape::World("task"),
        Expected::Exhausted("Fuel"),
    ),
    guest(
        "loop-in-post-return",
        include_str!("../loop-in-post-return.wat"),
        Shape::World("task"),
        Expected::Exhausted("Fuel"),
    ),
    guest(
        "fill-memory",
        include_str!("../fill-memory.wat"),
        Shape::World("task"),
        Expected::Exhausted("Fuel"),
    ),
    guest(
        "memory-bomb",
        include_str!("../memory-bomb.wat"),
        Shape::World("task"),
        Expected::Exhausted("Memory"),
    ),
    guest(
        "table-bomb",
        include_str!("../table-bomb.wat"),
        Shape::World("task"),
        Expected::Exhausted("Memory"),
    ),
    guest(
        "vast-memory",
        include_str!("../vast-memory.wat"),
        Shape::World("task"),
        Expected::Unfit {
            names: Some("initial memory in bytes"),
        },
    ),
    guest(
        "vast-table",
        include_str!("../vast-table.wat"),
        Shape::World("task"),
        Expected::Unfit {
            names: Some("initial table elements"),
        },
    ),
    guest(
        "deep-recursion",
        include_str!("../deep-recursion.wat"),
        Shape::World("task"),
        Expected::StackOverflow,
    ),
    guest(
        "giant-output",
        include_str!("../giant-output.wat"),
        Shape::World("task"),
        Expected::Exhausted("Output"),
    ),
    guest(
        "huge-error",
        include_str!("../huge-error.wat"),
        Shape::World("task"),
        Expected::RefusedFailed,
    ),
    guest(
        "terminal-escapes",
        include_str!("../terminal-escapes.wat"),
        Shape::World("task"),
        Expected::RefusedFailed,
    ),
    guest(
        "log-flood",
        include_str!("../log-flood.wat"),
        Shape::World("task"),
        Expected::Returned(b"ok"),
    ),
    guest(
        "progress-flood",
        include_str!("../progress-flood.wat"),
        Shape::World("task"),
        Expected::Returned(b"ok"),
    ),
    guest(
        "checkpoint-flood",
        include_str!("../checkpoint-flood.wat"),
        Shape::World("task"),
        Expected::Returned(b"ok"),
    ),
    guest(
        "unreachable",
        include_str!("../unreachable.wat"),
        Shape::World("task"),
        Expected::Trapped("Unreachable"),
    ),
    guest(
        "out-of-bounds",
        include_str!("../out-of-bounds.wat"),
        Shape::World("task"),
        Expected::Trapped("MemoryOutOfBounds"),
    ),
    guest(
        "division-by-zero",
        include_str!("../division-by-zero.wat"),
        Shape::World("task"),
        Expected::Trapped("DivisionByZero"),
    ),
    guest(
        "integer-overflow",
        include_str!("../integer-overflow.wat"),
        Shape::World("task"),
        Expected::Trapped("IntegerOverflow"),
    ),
    guest(
        "bad-conversion",
        include_str!("../bad-conversion.wat"),
        Shape::World("task"),
        Expected::Trapped("BadConversionToInteger"),
    ),
    guest(
        "null-call",
        include_str!("../null-call.wat"),
        Shape::World("task"),
        Expected::Trapped("IndirectCallToNull"),
    ),
    guest(
        "wrong-signature",
        include_str!("../wrong-signature.wat"),
        Shape::World("task"),
        Expected::Trapped("BadSignature"),
    ),
    guest(
        "table-out-of-bounds",
        include_str!("../table-out-of-bounds.wat"),
        Shape::World("task"),
        Expected::Trapped("TableOutOfBounds"),
    ),
    guest(
        "bad-result-pointer",
        include_str!("../bad-result-pointer.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "bad-body-pointer",
        include_str!("../bad-body-pointer.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "bad-discriminant",
        include_str!("../bad-discriminant.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "bad-error-text",
        include_str!("../bad-error-text.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "bad-media-type",
        include_str!("../bad-media-type.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "bad-realloc",
        include_str!("../bad-realloc.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "bad-log-text",
        include_str!("../bad-log-text.wat"),
        Shape::World("task"),
        Expected::Trapped("Contract"),
    ),
    guest(
        "foreign-import",
        include_str!("../foreign-import.wat"),
        Shape::World("foreign"),
        Expected::Unfit {
            names: Some("evil:host/shell"),
        },
    ),
    guest(
        "wasi-sockets",
        include_str!("../wasi-sockets.wat"),
        Shape::World("sockets"),
        Expected::Unfit {
            names: Some("wasi:sockets/instance-network"),
        },
    ),
    guest(
        "real-random",
        include_str!("../real-random.wat"),
        Shape::World("random"),
        Expected::Trapped("Forbidden"),
    ),
    guest(
        "random-flood",
        include_str!("../random-flood.wat"),
        Shape::World("insecure"),
        Expected::Exhausted("Fuel"),
    ),
    guest(
        "core-module",
        include_str!("../core-module.wat"),
        Shape::Bare,
        Expected::Unfit { names: None },
    ),
    guest(
        "no-runner",
        include_str!("../no-runner.wat"),
        Shape::Bare,
        Expected::Unfit {
            names: Some("hearth:task/runner"),
        },
    ),
];
