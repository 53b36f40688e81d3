//! `get`: resources of one kind, as a table or as documents.

mod columns;
mod watch;

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
  meshctl get dataplanes --watch

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
    /// List only resources with this label; may be repeated, or hold several with commas between.
    #[arg(long = "label", short, value_name = "KEY=VALUE", value_parser = label, value_delimiter = ',', conflicts_with = "name")]
    labels: Vec<(String, String)>,
    /// List only resources whose name contains this.
    #[arg(long, value_name = "PART", conflicts_with = "name")]
    name_contains: Option<String>,
    /// Then show every change as it happens, until interrupted.
    #[arg(long, short, conflicts_with = "name")]
    watch: bool,
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
    let filters = filters(&args.labels, args.name_contains.as_deref());
    if args.watch {
        let mesh = (!args.all_meshes).then_some(args.mesh.as_str());
        let path = format!("{}/_watch?{filters}", kinds::collection(kind, mesh));
        return watch::run(kind, path.trim_end_matches('?'), args.output, client, terminal, now).await;
    }
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
    let found = client.list(&(kinds::collection(kind, mesh) + suffix), &filters).await;
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

fn filters(labels: &[(String, String)], name: Option<&str>) -> String {
    let filter = |(key, value): &(String, String)| {
        format!("{}={}", kinds::segment(&format!("filter[labels.{key}]")), kinds::segment(value))
    };
    let name = name.map(|part| format!("name={}", kinds::segment(part)));
    labels.iter().map(filter).chain(name).collect::<Vec<_>>().join("&")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn label_filters_are_encoded() {
        let labels = [("kuma.io/zone".to_owned(), "a b".to_owned()), ("x".to_owned(), String::new())];
        assert_eq!(filters(&[], Some("a b")), "name=a%20b");
        assert_eq!(filters(&labels, None), "filter%5Blabels.kuma.io%2Fzone%5D=a%20b&filter%5Blabels.x%5D=");
        assert!(label("=x").is_err() && label("x").is_err());
    }
}
