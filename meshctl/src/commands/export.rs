//! `export` and `import`: everything that users wrote on one control plane, as manifests.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;

use model::{Kind, labels};
use serde_json::{Value, json};

use crate::client::{Client, ClientError};
use crate::commands::apply;
use crate::document::{self, Format};
use crate::dry_run::{Outcome, Trials};
use crate::entries::{Entries, Entry, SourceArgs};
use crate::error::Error;
use crate::kinds;
use crate::terminal::{Terminal, chain};

pub(crate) const EXPORT_EXAMPLES: &str = "Examples:

  meshctl export > control-plane.yaml
  meshctl export --mesh demo --without-secrets -o demo.yaml

Holds what was written on this control plane: what other control planes sent, and what is observed, comes back by \
itself. Secrets are in it in clear, so a file is made for its owner only.";

pub(crate) const IMPORT_EXAMPLES: &str = "Examples:

  meshctl import -f control-plane.yaml --dry-run
  meshctl import -f control-plane.yaml
  meshctl import -f control-plane.yaml --overwrite

When a resource is there already and differs, nothing is written, unless --overwrite is given. Signing keys are \
taken over: afterwards the tokens of the exported control plane are valid, and those issued here are not.";

/// Keys that each control plane has for itself: they are of no use elsewhere.
const OWN_SECRETS: [&str; 2] = ["envoy-admin-ca", "inter-cp-ca"];
const USER_SIGNING_KEY: &str = "user-token-signing-key";
/// Signed with that key: it goes where the key goes.
const ADMIN_TOKEN: &str = "admin-user-token";

#[derive(Debug, clap::Args)]
pub(crate) struct ExportArgs {
    /// Only this mesh and what is in it; may be repeated. Without it, everything.
    #[arg(long, short, value_name = "MESH")]
    mesh: Vec<String>,
    /// Leave secrets out. Certificates and tokens then do not survive an import.
    #[arg(long)]
    without_secrets: bool,
    /// The file to write, instead of standard output.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ImportArgs {
    #[command(flatten)]
    source: SourceArgs,
    /// Tell what would be written, without writing it.
    #[arg(long)]
    dry_run: bool,
    /// Replace resources that are there and differ.
    #[arg(long)]
    overwrite: bool,
}

pub(crate) async fn export(
    args: ExportArgs,
    client: &mut Client,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let foreign = foreign_origin(client).await?;
    let mut documents = Vec::new();
    for kind in order().filter(|kind| !(args.without_secrets && is_secret(*kind))) {
        for found in list(client, kind, &args.mesh).await? {
            if label(&found, labels::ORIGIN) != foreign && !is_own_secret(kind, &found) {
                documents.push(portable(kind, found));
            }
        }
    }
    // Whoever imports needs the old key until the end.
    documents.sort_by_key(|document| name(document).starts_with(USER_SIGNING_KEY));
    match &args.output {
        None => document::write_all(terminal.out(), Format::Yaml, &documents)?,
        Some(path) => {
            let mut file = create(path)?;
            document::write_all(&mut file, Format::Yaml, &documents)?;
            file.sync_all()?;
        }
    }
    Ok(terminal.note(format_args!("{} resources exported", documents.len()))?)
}

/// A file for its owner only, that is not there yet.
fn create(path: &PathBuf) -> Result<File, Error> {
    let file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
    file.map_err(|error| Error::Usage(format!("cannot create {}: {error}", path.display())))
}

/// Meshes first, for everything else needs them; then secrets, for policies name them.
fn order() -> impl Iterator<Item = Kind> {
    let ranks = [(Kind::MESH, 0), (Kind::SECRET, 1), (Kind::GLOBAL_SECRET, 3)];
    let rank = |kind: &Kind| ranks.iter().find(|(ranked, _)| ranked == kind).map_or(2, |(_, rank)| *rank);
    let mut kinds: Vec<_> = kinds::served().filter(|kind| !kind.read_only).collect();
    kinds.sort_by_key(rank);
    kinds.into_iter()
}

fn is_secret(kind: Kind) -> bool {
    kind == Kind::SECRET || kind == Kind::GLOBAL_SECRET
}

async fn list(client: &mut Client, kind: Kind, meshes: &[String]) -> Result<Vec<Value>, Error> {
    let failed = |source: ClientError| Error::Failed { action: format!("list {}", kind.plural), source };
    if meshes.is_empty() {
        return client.list(&kinds::collection(kind, None), "").await.map_err(failed);
    }
    let mut found = Vec::new();
    for mesh in meshes {
        if kind == Kind::MESH {
            found.push(client.get_json(&kinds::item(kind, "", mesh)).await.map_err(failed)?);
        } else if kind.is_mesh_scoped() {
            found.extend(client.list(&kinds::collection(kind, Some(mesh)), "").await.map_err(failed)?);
        }
    }
    Ok(found)
}

/// The origin of resources that this control plane only holds for others.
async fn foreign_origin(client: &mut Client) -> Result<Option<String>, Error> {
    let index = client.get_json("/").await?;
    let mode = match index.pointer("/implementation/mode") {
        Some(mode) => mode.clone(),
        // A peer tells it in its configuration.
        None => client.get_json("/config").await?.get("mode").cloned().unwrap_or_default(),
    };
    match mode.as_str() {
        Some("global") => Ok(Some("zone".to_owned())),
        Some("zone") => Ok(Some("global".to_owned())),
        _ => Err(Error::Answer { what: "/".into(), reason: "it does not say global or zone".into() }),
    }
}

fn name(document: &Value) -> &str {
    document.get("name").and_then(Value::as_str).unwrap_or_default()
}

fn label(document: &Value, key: &str) -> Option<String> {
    document.get("labels")?.get(key)?.as_str().map(str::to_owned)
}

fn is_own_secret(kind: Kind, document: &Value) -> bool {
    kind == Kind::GLOBAL_SECRET && OWN_SECRETS.contains(&name(document))
}

/// A document without what an import does not take over.
fn portable(kind: Kind, mut document: Value) -> Value {
    if let Some(fields) = document.as_object_mut() {
        for observed in ["creationTime", "modificationTime", "status", "kri", "snis"] {
            fields.remove(observed);
        }
        if kind == Kind::MESH {
            // Its policies are in the export: those of a new mesh must not come between.
            fields.insert("skipCreatingInitialPolicies".to_owned(), json!(["*"]));
        }
    }
    document
}

pub(crate) async fn import(
    args: ImportArgs,
    client: &mut Client,
    terminal: &mut Terminal,
) -> Result<(), Error> {
    let Entries { list, total } = args.source.read(terminal)?;
    let mut planned = Vec::new();
    let mut trials = Trials::new(Some(client));
    for entry in &list {
        let Entry { place, key, .. } = entry;
        let trial = match trials.make(entry).await {
            Ok(trial) => trial,
            Err(error) if error.is_fatal() => return Err(error.of(format!("import {key} of {place}"))),
            Err(error) => {
                terminal.note(format_args!("error: {place}: {key}: {}", chain(&error)))?;
                continue;
            }
        };
        if trial.outcome == Outcome::Updated && !args.overwrite && !is_brought(entry) {
            terminal
                .note(format_args!("error: {place}: {key} is there already and differs: see --overwrite"))?;
            continue;
        }
        planned.push((entry, trial.outcome));
    }
    let refused = total - planned.len();
    if args.dry_run || refused > 0 {
        for (entry, outcome) in &planned {
            terminal.line(format_args!("{} would be {outcome}", entry.key))?;
        }
        // All or nothing, as far as can be told before: half a control plane is worse than none.
        return match refused {
            0 => Ok(()),
            failed => {
                Err(Error::Incomplete { failed, total, what: "cannot be imported; nothing is written" })
            }
        };
    }
    for (entry, _) in planned {
        let Entry { place, key, .. } = entry;
        let failed = |source| Error::Failed { action: format!("import {key} of {place}"), source };
        let (outcome, _) = apply::put(client, &entry.path(), &entry.document).await.map_err(failed)?;
        terminal.line(format_args!("{key} {outcome}"))?;
    }
    Ok(())
}

/// Whether a control plane makes such a resource by itself, so that it always differs.
fn is_brought(entry: &Entry) -> bool {
    let name = &entry.key.name;
    let is_key = name.contains("signing-key") || **name == *ADMIN_TOKEN;
    entry.key.kind == Kind::MESH || (is_secret(entry.key.kind) && is_key)
}
