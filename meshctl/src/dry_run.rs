//! What a write would do: asked from the control plane, or found out here as far as that goes.

use std::collections::BTreeSet;
use std::fmt;

use model::{Key, Kind};
use serde::Deserialize;
use serde_json::Value;

use crate::client::{Client, ClientError};
use crate::entries::Entry;
use crate::error::Error;

/// What a write does to a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Outcome {
    Created,
    Updated,
    Unchanged,
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        })
    }
}

/// A write that would be taken.
#[derive(Debug, Deserialize)]
pub(crate) struct Trial {
    pub(crate) outcome: Outcome,
    /// The resource as it would be stored.
    pub(crate) resource: Value,
    /// Resources that would be created along with it.
    #[serde(default)]
    pub(crate) brings: Vec<String>,
    #[serde(skip)]
    pub(crate) warnings: Vec<String>,
}

/// Why there is no trial.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TrialError {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error(
        "this control plane cannot tell what a write would do: `meshctl apply --dry-run=client` checks here"
    )]
    NotThere,
    #[error("{}", .0.join("\n  * "))]
    Refused(Vec<String>),
}

impl TrialError {
    /// The end of a command that could not do this.
    pub(crate) fn of(self, action: String) -> Error {
        match self {
            Self::Client(source) => Error::Failed { action, source },
            other => Error::Usage(other.to_string()),
        }
    }

    /// Whether the next trial would end in the same way.
    pub(crate) fn is_fatal(&self) -> bool {
        match self {
            Self::Client(error) => error.is_fatal(),
            Self::NotThere => true,
            Self::Refused(_) => false,
        }
    }
}

/// Trials of the entries of one command, in their order.
pub(crate) struct Trials<'a> {
    /// Whom to ask; without one, everything is checked here.
    client: Option<&'a mut Client>,
    /// Meshes that earlier entries would create.
    new_meshes: BTreeSet<String>,
}

impl<'a> Trials<'a> {
    pub(crate) fn new(client: Option<&'a mut Client>) -> Self {
        Self { client, new_meshes: BTreeSet::new() }
    }

    /// What writing an entry would do. In a mesh that is not there yet nobody can be asked: then it is
    /// checked here.
    pub(crate) async fn make(&mut self, entry: &Entry) -> Result<Trial, TrialError> {
        let trial = match &mut self.client {
            Some(client) if !self.new_meshes.contains(&*entry.key.mesh) => ask(client, entry).await?,
            _ => check(entry)?,
        };
        if entry.key.kind == Kind::MESH && trial.outcome == Outcome::Created {
            self.new_meshes.insert(entry.key.name.to_string());
        }
        Ok(trial)
    }

    /// The stored resource that a trial would change.
    pub(crate) async fn stored(
        &mut self,
        entry: &Entry,
        trial: &Trial,
    ) -> Result<Option<Value>, ClientError> {
        match &mut self.client {
            Some(client) if trial.outcome == Outcome::Updated => {
                client.get_json(&entry.path()).await.map(Some)
            }
            _ => Ok(None),
        }
    }
}

async fn ask(client: &mut Client, entry: &Entry) -> Result<Trial, TrialError> {
    let path = entry.path() + "/_dry-run";
    match client.post(&path, &entry.document).await {
        Ok(answer) => {
            let mut trial: Trial = answer.read(&path)?;
            trial.warnings = answer.warnings;
            Ok(trial)
        }
        Err(ClientError::Problem(problem)) if problem.is_of_router() => Err(TrialError::NotThere),
        Err(error) => Err(error.into()),
    }
}

/// Checks by the rules that control planes share. What depends on other resources is not seen.
fn check(entry: &Entry) -> Result<Trial, TrialError> {
    let refused = |reason: String| TrialError::Refused(vec![reason]);
    let parsed = model::rest::parse(&entry.document).map_err(|error| refused(error.to_string()))?;
    let Key { kind, mesh, name } = &entry.key;
    let mut violations = model::validation::check_names(*kind, mesh, name);
    violations.extend(model::validation::validate(&parsed.resource.build()));
    if !violations.is_empty() {
        let fields = violations.iter().map(|one| format!("{}: {}", one.field, one.message));
        let reasons = std::iter::once("Resource is not valid".to_owned()).chain(fields);
        return Err(TrialError::Refused(reasons.collect()));
    }
    let warnings = parsed.unknown.iter().map(ToString::to_string).collect();
    let resource = entry.document.clone();
    Ok(Trial { outcome: Outcome::Created, resource, brings: Vec::new(), warnings })
}
