//! `explain`: what a kind and its fields mean, from the schema that control planes check with.

use model::{Kind, schema};
use serde_json::{Map, Value};

use crate::error::Error;
use crate::kinds;
use crate::table::Table;
use crate::terminal::Terminal;

pub(crate) const EXAMPLES: &str = "Examples:

  meshctl explain meshtimeout
  meshctl explain meshtimeout.spec.to.default
  meshctl explain dataplane.networking --recursive

Needs no control plane.";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// A kind, and the way to one of its fields: KIND[.FIELD...].
    #[arg(value_name = "KIND[.FIELD]")]
    what: String,
    /// Show the fields of fields too.
    #[arg(long, short = 'R')]
    recursive: bool,
}

/// How deep fields are shown: deeper than any kind is.
const MAX_DEPTH: usize = 16;

pub(crate) fn run(args: &Args, terminal: &mut Terminal) -> Result<(), Error> {
    let (kind, path) = args.what.split_once('.').unwrap_or((&args.what, ""));
    let kind = kinds::resolve(kind)?;
    let root = schema::document_schema(kind);
    let (schema, way) = find(kind, &root, path)?;
    let found = resolve(&root, schema);
    terminal.line(format_args!("{way}  <{}>", shape(&root, schema)))?;
    let about = text(schema, "description").or_else(|| text(found, "description"));
    if let Some(about) = about {
        terminal.line(format_args!("\n{}", wrap(about)))?;
    }
    for (title, key) in [("Default", "default"), ("At least", "minimum"), ("At most", "maximum")] {
        if let Some(value) = schema.get(key).or_else(|| found.get(key)).filter(|value| !value.is_null()) {
            terminal.line(format_args!("\n{title}: {value}"))?;
        }
    }
    let choices = choices(&root, schema);
    if !choices.is_empty() {
        terminal.line("\nValues:")?;
        for (value, about) in choices {
            let about = about.map(|about| format!("  {about}")).unwrap_or_default();
            terminal.line(format_args!("  {value}{about}"))?;
        }
    }
    let mut table = Table::new(["FIELD", "TYPE", "MEANING"]);
    let rows = list(&root, schema, args.recursive, 0, &mut table);
    if rows > 0 {
        terminal.line("")?;
        table.write(terminal.out())?;
    }
    Ok(())
}

/// The schema at a way through fields; lists are stepped through.
fn find<'a>(kind: Kind, root: &'a Value, path: &str) -> Result<(&'a Value, String), Error> {
    let mut schema = root;
    let mut way = kind.info().name.to_owned();
    for name in path.split('.').filter(|name| !name.is_empty()) {
        let name = name.split_once('[').map_or(name, |(name, _)| name);
        let Some(properties) = properties(root, schema) else {
            return Err(Error::Usage(format!("{way} has no fields: it is <{}>", shape(root, schema))));
        };
        schema = properties.get(name).ok_or_else(|| {
            let nearest = schema::nearest(name, properties.keys().map(String::as_str));
            let hint = nearest.map(|near| format!(", did you mean {near:?}?")).unwrap_or_default();
            let all = properties.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Error::Usage(format!("{way} has no field {name:?}{hint}; it has {all}"))
        })?;
        way = format!("{way}.{name}");
    }
    Ok((schema, way))
}

fn list(root: &Value, schema: &Value, recursive: bool, depth: usize, table: &mut Table) -> usize {
    let Some(fields) = properties(root, schema) else { return 0 };
    let owner = inner(root, schema);
    let required = |name: &str| {
        let listed = owner.get("required").and_then(Value::as_array);
        listed.is_some_and(|listed| listed.iter().any(|one| one.as_str() == Some(name)))
    };
    for (name, field) in fields {
        let about = text(field, "description").or_else(|| text(resolve(root, field), "description"));
        let first =
            about.unwrap_or_default().split_inclusive(". ").next().unwrap_or_default().trim().to_owned();
        let star = if required(name) { " (required)" } else { "" };
        let shown = format!("{}{name}", "  ".repeat(depth));
        table.row([shown, shape(root, field) + star, first.replace('\n', " ")]);
        if recursive && depth < MAX_DEPTH {
            list(root, field, recursive, depth + 1, table);
        }
    }
    fields.len()
}

/// Follows references and takes the branch of an optional that is not null.
fn resolve<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let mut schema = schema;
    for _ in 0..MAX_DEPTH {
        let next = match (text(schema, "$ref"), schema.get("anyOf").and_then(Value::as_array)) {
            (Some(reference), _) => root.pointer(reference.trim_start_matches('#')),
            (None, Some(branches)) => branches.iter().find(|branch| text(branch, "type") != Some("null")),
            (None, None) => None,
        };
        match next {
            Some(next) => schema = next,
            None => break,
        }
    }
    schema
}

/// The schema of an object, or of the items of lists.
fn inner<'a>(root: &'a Value, schema: &'a Value) -> &'a Value {
    let found = resolve(root, schema);
    found.get("items").map_or(found, |items| inner(root, items))
}

fn properties<'a>(root: &'a Value, schema: &'a Value) -> Option<&'a Map<String, Value>> {
    inner(root, schema).get("properties").and_then(Value::as_object)
}

fn text<'a>(schema: &'a Value, key: &str) -> Option<&'a str> {
    schema.get(key).and_then(Value::as_str)
}

fn shape(root: &Value, schema: &Value) -> String {
    let found = resolve(root, schema);
    if let Some(items) = found.get("items") {
        return format!("list of {}", shape(root, items));
    }
    let values = found.get("additionalProperties").filter(|values| values.is_object());
    if let Some(values) = values.filter(|_| found.get("properties").is_none()) {
        return format!("map to {}", shape(root, values));
    }
    match found.get("type") {
        Some(Value::String(name)) => name.clone(),
        Some(Value::Array(names)) => {
            let names = names.iter().filter_map(Value::as_str).filter(|name| *name != "null");
            names.collect::<Vec<_>>().join(" or ")
        }
        _ if found.get("oneOf").is_some() || found.get("enum").is_some() => "string".to_owned(),
        _ => "any".to_owned(),
    }
}

/// Values that a field may have, with what is told of each.
fn choices<'a>(root: &'a Value, schema: &'a Value) -> Vec<(String, Option<&'a str>)> {
    let found = inner(root, schema);
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let listed = found.get("enum").and_then(Value::as_array).into_iter().flatten();
    let named = found.get("oneOf").and_then(Value::as_array).into_iter().flatten();
    let named = named.flat_map(|one| {
        let about = text(one, "description");
        let constant = one.get("const").map(|value| (plain(value), about));
        let values = one.get("enum").and_then(Value::as_array).into_iter().flatten();
        constant.into_iter().chain(values.map(move |value| (plain(value), about))).collect::<Vec<_>>()
    });
    listed.map(|value| (plain(value), None)).chain(named).collect()
}

/// Breaks a text into lines that fit a terminal.
fn wrap(text: &str) -> String {
    const WIDTH: usize = 100;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        if let Some(line) = lines.last_mut().filter(|line| line.len() + word.len() < WIDTH) {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}
