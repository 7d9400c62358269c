//! The OpenAPI document, made from the table of routes and from examples of the types.

use axum::Json;
use serde_json::{Map, Value, json};

use super::routes::{ROUTES, Route};

mod examples;

pub(super) async fn get() -> Json<Value> {
    Json(document())
}

/// The document.
pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let path = paths
            .entry(route.path)
            .or_insert_with(|| Value::Object(Map::new()));
        if let Value::Object(methods) = path {
            methods.insert(route.method.to_owned(), operation(route));
        }
    }
    let schemas: Map<String, Value> = examples::all()
        .into_iter()
        .map(|(name, example)| {
            let mut schema = schema(&example);
            if let Value::Object(schema) = &mut schema {
                schema.insert("example".to_owned(), example);
            }
            (name.to_owned(), schema)
        })
        .collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Hearth",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "Jobs, tasks, results, nodes and modes of a realm. Every error is an ApiError. \
                Numbers of records (`seq`) in answers can be given as `min_seq` to reads.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "certificate": { "type": "mutualTLS", "description": "A certificate of the realm" },
                "bearer": { "type": "http", "scheme": "bearer", "description": "On the loopback listener" },
            },
        },
    })
}

fn operation(route: &Route) -> Value {
    let mut operation = json!({
        "summary": route.summary,
        "operationId": operation_id(route),
        "parameters": parameters(route),
        "responses": {
            route.status.to_string(): {
                "description": "Done",
                "content": content(route.answer),
            },
            "default": {
                "description": "Refused; says who is to blame and what to do",
                "content": content("ApiError"),
            },
        },
    });
    if let Value::Object(fields) = &mut operation {
        if let Some(body) = route.body {
            let body = json!({ "required": true, "content": content(body) });
            fields.insert("requestBody".to_owned(), body);
        }
        if !route.roles.is_empty() {
            let roles: Vec<_> = route.roles.iter().map(|role| role.as_str()).collect();
            fields.insert("x-roles".to_owned(), json!(roles));
            let security = json!([{ "certificate": [] }, { "bearer": [] }]);
            fields.insert("security".to_owned(), security);
        }
    }
    operation
}

fn operation_id(route: &Route) -> String {
    let path: String = route
        .path
        .chars()
        .map(|letter| {
            if letter.is_ascii_alphanumeric() {
                letter
            } else {
                '_'
            }
        })
        .collect();
    format!("{}{path}", route.method)
}

fn parameters(route: &Route) -> Vec<Value> {
    let in_path = route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
        .map(|name| {
            json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
        });
    let in_query = route.query.iter().map(|name| {
        let kind = match *name {
            "media_type" => "string",
            "hold" => "boolean",
            _ => "integer",
        };
        json!({ "name": name, "in": "query", "required": *name == "count", "schema": { "type": kind } })
    });
    in_path.chain(in_query).collect()
}

/// A media type stands for itself, anything else names a schema.
fn content(name: &str) -> Value {
    if name.contains('/') {
        return json!({ name: { "schema": {} } });
    }
    let reference = format!("#/components/schemas/{name}");
    json!({ "application/json": { "schema": { "$ref": reference } } })
}

/// The schema that an example shows.
fn schema(example: &Value) -> Value {
    match example {
        Value::Null => json!({}),
        Value::Bool(_) => json!({ "type": "boolean" }),
        Value::Number(number) if number.is_f64() => json!({ "type": "number" }),
        Value::Number(_) => json!({ "type": "integer" }),
        Value::String(_) => json!({ "type": "string" }),
        Value::Array(items) => {
            let items = items.first().map_or_else(|| json!({}), schema);
            json!({ "type": "array", "items": items })
        }
        Value::Object(fields) => {
            let properties: Map<_, _> = fields
                .iter()
                .map(|(name, value)| (name.clone(), schema(value)))
                .collect();
            json!({ "type": "object", "properties": properties })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_route_and_every_type_that_it_names_is_in_the_document() {
        let document = document();
        let schemas = &document["components"]["schemas"];
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method];
            assert!(operation.is_object(), "{} {}", route.method, route.path);
            for name in route.body.into_iter().chain([route.answer]) {
                let known = name.contains('/') || schemas[name].is_object();
                assert!(known, "{name} of {} has no example", route.path);
            }
        }
        assert!(schemas["ApiError"].is_object());
    }
}
