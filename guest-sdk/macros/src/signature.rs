//! The little of a function's signature that the attribute needs.

use proc_macro::{Delimiter, TokenStream, TokenTree};

/// How to use it, told with every refusal.
const SHAPE: &str =
    "#[hearth::task] stands on `fn run(input: Input) -> Result<Output, hearth::Error>`";

/// The name, the visibility and the argument of a task's function.
pub(crate) struct Signature {
    name: String,
    visibility: TokenStream,
    argument: TokenStream,
}

impl Signature {
    pub(crate) fn parse(function: TokenStream) -> Result<Self, String> {
        let tokens: Vec<TokenTree> = function.into_iter().collect();
        let at = tokens
            .iter()
            .position(|token| is_ident(token, "fn"))
            .ok_or_else(|| format!("not a function: {SHAPE}"))?;
        if let Some(word) = ["async", "unsafe", "extern", "const"]
            .into_iter()
            .find(|word| tokens[..at].iter().any(|token| is_ident(token, word)))
        {
            return Err(format!("a task is no {word} function: {SHAPE}"));
        }
        let (Some(TokenTree::Ident(name)), Some(TokenTree::Group(arguments))) =
            (tokens.get(at + 1), tokens.get(at + 2))
        else {
            return Err(format!("a task is not generic: {SHAPE}"));
        };
        if arguments.delimiter() != Delimiter::Parenthesis {
            return Err(format!("not a function: {SHAPE}"));
        }
        if !matches!(tokens.get(at + 3), Some(TokenTree::Punct(punct)) if punct.as_char() == '-') {
            return Err(format!("a task returns a Result: {SHAPE}"));
        }
        Ok(Self {
            name: name.to_string(),
            visibility: visibility(&tokens[..at]),
            argument: argument_type(arguments.stream())?,
        })
    }

    pub(crate) fn expand(&self) -> Result<TokenStream, String> {
        let Self {
            name,
            visibility,
            argument,
        } = self;
        let bare = name.strip_prefix("r#").unwrap_or(name);
        let (owned, pass) = match borrowed(argument)? {
            Some(owned) => (owned, "&input"),
            None => (argument.to_string(), "input"),
        };
        format!(
            "
            /// The task as a host sees it, from bytes to bytes.
            ///
            /// # Errors
            ///
            /// Those of the task, and `InvalidInput` if the input cannot be read.
            #[allow(dead_code)]
            {visibility} fn {bare}_payload(
                payload: ::hearth::Payload,
            ) -> ::core::result::Result<::hearth::Payload, ::hearth::Error> {{
                #[allow(unused_imports)]
                use ::hearth::__private::{{Read, ReadItself, ReadJson, Write, WriteItself, WriteJson}};
                let input: {owned} = (&Read::<{owned}>::new()).read(payload)?;
                let output = {name}({pass})?;
                (&Write::new(output)).write()
            }}

            #[cfg(target_arch = \"wasm32\")]
            const _: () = {{
                use ::hearth::__private::{{Guest, bindings, serve}};

                struct Component;

                impl Guest for Component {{
                    fn run(
                        input: bindings::hearth::task::types::Payload,
                    ) -> ::core::result::Result<
                        bindings::hearth::task::types::Payload,
                        bindings::hearth::task::types::ErrorCode,
                    > {{
                        serve({bare}_payload, input)
                    }}
                }}

                bindings::export!(Component with_types_in ::hearth::__private::bindings);
            }};
            "
        )
        .parse()
        .map_err(|error| format!("cannot write the task's export: {error}"))
    }
}

fn is_ident(token: &TokenTree, word: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident.to_string() == word)
}

fn is_punct(token: &TokenTree, wanted: char) -> bool {
    matches!(token, TokenTree::Punct(punct) if punct.as_char() == wanted)
}

/// `pub` and what stands in parentheses behind it.
fn visibility(before: &[TokenTree]) -> TokenStream {
    match before.iter().position(|token| is_ident(token, "pub")) {
        Some(at) => before[at..].iter().cloned().collect(),
        None => TokenStream::new(),
    }
}

/// The type in `pattern: Type` or `pattern: Type,`.
fn argument_type(arguments: TokenStream) -> Result<TokenStream, String> {
    let tokens: Vec<TokenTree> = arguments.into_iter().collect();
    let wrong = || format!("a task has one argument: {SHAPE}");
    // A pattern such as `Point { x, y }` is a group, so the first bare colon is the argument's; `a::B`
    // in a pattern is two colons.
    let mut at = 0;
    while at < tokens.len() && !is_punct(&tokens[at], ':') {
        at += 1;
    }
    while at + 1 < tokens.len() && is_punct(&tokens[at + 1], ':') {
        at += 2;
        while at < tokens.len() && !is_punct(&tokens[at], ':') {
            at += 1;
        }
    }
    let mut kind = tokens.get(at + 1..).ok_or_else(wrong)?;
    if let [rest @ .., last] = kind
        && is_punct(last, ',')
    {
        kind = rest;
    }
    let mut depth = 0;
    for (index, token) in kind.iter().enumerate() {
        // The arrow of a function type is no closing bracket.
        let arrow = index > 0 && is_punct(&kind[index - 1], '-');
        match token {
            token if is_punct(token, '<') => depth += 1,
            token if is_punct(token, '>') && !arrow => depth -= 1,
            token if is_punct(token, ',') && depth == 0 => return Err(wrong()),
            _ => {}
        }
    }
    if kind.is_empty() {
        return Err(wrong());
    }
    Ok(kind.iter().cloned().collect())
}

/// For `&Type`, the type that owns it.
fn borrowed(argument: &TokenStream) -> Result<Option<String>, String> {
    let tokens: Vec<TokenTree> = argument.clone().into_iter().collect();
    let Some(first) = tokens.first() else {
        return Ok(None);
    };
    if !is_punct(first, '&') {
        return Ok(None);
    }
    let mut rest = &tokens[1..];
    if let [quote, _, more @ ..] = rest
        && is_punct(quote, '\'')
    {
        rest = more;
    }
    match rest {
        [word, ..] if is_ident(word, "mut") => {
            Err(format!("a task does not take its input as &mut: {SHAPE}"))
        }
        [word] if is_ident(word, "str") => Ok(Some("::std::string::String".to_owned())),
        [TokenTree::Group(slice)] if slice.delimiter() == Delimiter::Bracket => {
            Ok(Some(format!("::std::vec::Vec<{}>", slice.stream())))
        }
        other => Ok(Some(
            other.iter().cloned().collect::<TokenStream>().to_string(),
        )),
    }
}
