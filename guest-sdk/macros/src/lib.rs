//! The `#[hearth::task]` attribute. It never changes the function that it stands on; it adds a
//! function beside it and, in a component, the export that calls that.
//!
//! Written on bare token trees: it needs the name of the function and the type of its one argument,
//! and a parser for all of Rust would take longer to build than most guests.

mod signature;

use proc_macro::TokenStream;

use signature::Signature;

/// Makes a function a task.
///
/// The function takes one argument and returns `Result<Output, E>` with `E: Into<hearth::Error>`.
/// What types it may take and give is told in the documentation of the crate. There is one task in
/// a crate.
///
/// Beside `fn NAME` it writes `fn NAME_payload(hearth::Payload) -> Result<hearth::Payload,
/// hearth::Error>`, the task as a host sees it, for tests of what goes in and out as bytes.
#[proc_macro_attribute]
pub fn task(arguments: TokenStream, function: TokenStream) -> TokenStream {
    let added = if arguments.is_empty() {
        Signature::parse(function.clone()).and_then(|signature| signature.expand())
    } else {
        Err("#[hearth::task] takes no arguments".to_owned())
    };
    let added = match added {
        Ok(added) => added,
        Err(problem) => format!("::core::compile_error!({problem:?});")
            .parse()
            .unwrap_or_default(),
    };
    [function, added].into_iter().collect()
}
