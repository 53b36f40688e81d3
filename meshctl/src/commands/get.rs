//! `get`: resources of one kind, as a table or as documents.

mod columns;

use model::{Kind, Timestamp};

use crate::client::Client;
use crate::document::{self, Format};
use crate::error::Error;
use crate::kinds;
use crate::terminal::Terminal;

pub(crate) fn examples() -> String {
    let kinds = kinds::help();
    format!(
        "Examples:

  meshctl get meshes
  meshctl get dataplanes --mesh demo
  meshctl get msvc --all-meshes -l kuma.io/zone=east
  meshctl get meshtimeout slow -o yaml

{kinds}"
    )
}

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Kind of the resources, for example `meshtimeouts`, `mesh-timeout` or `mt`.
    kind: String,
    /// Name of one resource; without it, all are listed.
    name: Option<String>,
    /// Their mesh; kinds without a mesh do not need it.
    #[arg(long, short, default_value = "default")]
    mesh: String,
    /// List the resources of every mesh.
    #[arg(long, short = 'A', conflicts_with_all = ["mesh", "name"])]
    all_meshes: bool,
    /// List only resources with this label; may be repeated.
    #[arg(long = "label", short, value_name = "KEY=VALUE", value_parser = label, conflicts_with = "name")]
    labels: Vec<(String, String)>,
    /// How to print them.
    #[arg(long, short, value_enum, default_value_t = Format::Table)]
    output: Format,
}

fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("expected KEY=VALUE".to_owned()),
    }
}

pub(crate) async fn run(
    args: Args,
    client: &mut Client,
    terminal: &mut Terminal,
    now: Timestamp,
) -> Result<(), Error> {
    let kind = kinds::resolve(&args.kind)?;
    let is_table = args.output == Format::Table;
    // Tables of these tell what is observed too.
    let suffix = if is_table && has_overview(kind) { "/_overview" } else { "" };
    if let Some(name) = &args.name {
        let path = kinds::item(kind, &args.mesh, name) + suffix;
        let found = client.get_json(&path).await.map_err(|source| Error::Failed {
            action: format!("get {}", kinds::shown(kind, &args.mesh, name)),
            source,
        })?;
        return if is_table {
            columns::table(kind, &[found], now)?.write(terminal.out()).map_err(Error::Output)
        } else {
            document::write(terminal.out(), args.output, &found)
        };
    }
    let mesh = (!args.all_meshes).then_some(args.mesh.as_str());
    let found = client.list(&(kinds::collection(kind, mesh) + suffix), &filters(&args.labels)).await;
    let found = found.map_err(|source| Error::Failed { action: format!("list {}", kind.plural), source })?;
    if !is_table {
        document::write_all(terminal.out(), args.output, &found)
    } else if found.is_empty() {
        let scope = mesh.filter(|_| kind.is_mesh_scoped());
        let scope = scope.map(|mesh| format!(" in mesh {mesh}; --all-meshes lists every mesh"));
        Ok(terminal.note(format_args!("no {}{}", kind.plural, scope.unwrap_or_default()))?)
    } else {
        Ok(columns::table(kind, &found, now)?.write(terminal.out())?)
    }
}

fn has_overview(kind: Kind) -> bool {
    kind == Kind::ZONE || kind == Kind::DATAPLANE
}

fn filters(labels: &[(String, String)]) -> String {
    let filter = |(key, value): &(String, String)| {
        format!("{}={}", kinds::segment(&format!("filter[labels.{key}]")), kinds::segment(value))
    };
    labels.iter().map(filter).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_filters_are_encoded() {
        let labels = [("kuma.io/zone".to_owned(), "a b".to_owned()), ("x".to_owned(), String::new())];
        assert_eq!(filters(&labels), "filter%5Blabels.kuma.io%2Fzone%5D=a%20b&filter%5Blabels.x%5D=");
        assert!(label("=x").is_err() && label("x").is_err());
    }
}
