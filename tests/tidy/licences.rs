//! Every dependency has a licence that the policy in `.cargo/deny.toml` allows.

use super::{metadata, root, text};

#[test]
fn dependencies_have_allowed_licences() {
    let policy = std::fs::read_to_string(root().join(".cargo/deny.toml")).unwrap();
    let policy: toml::Table = policy.parse().unwrap();
    let allowed: Vec<&str> = policy["licenses"]["allow"]
        .as_array()
        .unwrap()
        .iter()
        .map(|name| name.as_str().unwrap())
        .collect();
    let mut refused = Vec::new();
    for package in metadata()["packages"].as_array().unwrap() {
        let expression = text(&package["license"]);
        if !satisfied(expression, &allowed) {
            refused.push(format!(
                "{} {}: {expression:?}",
                package["name"], package["version"]
            ));
        }
    }
    assert!(
        refused.is_empty(),
        "not allowed by .cargo/deny.toml:\n{}",
        refused.join("\n")
    );
}

/// Whether an SPDX expression of `AND`, `OR`, parentheses and the old `/` can be met.
fn satisfied(expression: &str, allowed: &[&str]) -> bool {
    let spaced = expression
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ")
        .replace(" WITH ", "+WITH+");
    let tokens: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = tokens.as_slice();
    let met = any(&mut rest, allowed);
    met && rest.is_empty()
}

fn any(tokens: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = all(tokens, allowed);
    while let Some((&"OR", rest)) = tokens.split_first() {
        *tokens = rest;
        met |= all(tokens, allowed);
    }
    met
}

fn all(tokens: &mut &[&str], allowed: &[&str]) -> bool {
    let mut met = one(tokens, allowed);
    while let Some((&"AND", rest)) = tokens.split_first() {
        *tokens = rest;
        met &= one(tokens, allowed);
    }
    met
}

fn one(tokens: &mut &[&str], allowed: &[&str]) -> bool {
    let Some((&token, rest)) = tokens.split_first() else {
        return false;
    };
    *tokens = rest;
    if token != "(" {
        return allowed.contains(&token.replace("+WITH+", " WITH ").as_str());
    }
    let met = any(tokens, allowed);
    if let Some((&")", rest)) = tokens.split_first() {
        *tokens = rest;
        return met;
    }
    false
}

#[test]
fn expressions_are_read() {
    let allowed = ["MIT", "ISC", "Apache-2.0 WITH LLVM-exception"];
    assert!(satisfied("MIT OR GPL-3.0", &allowed));
    assert!(satisfied("GPL-3.0/MIT", &allowed));
    assert!(satisfied("(GPL-3.0 OR MIT) AND ISC", &allowed));
    assert!(satisfied("Apache-2.0 WITH LLVM-exception", &allowed));
    assert!(!satisfied("MIT AND GPL-3.0", &allowed));
    assert!(!satisfied("", &allowed));
}
