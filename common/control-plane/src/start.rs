//! From the command line to a running program.

use anyhow::Context;
use model::spec::Config;
use model::{Key, Kind, Labels, Resource, Timestamp};
use runtime::config::Loaded;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use store::{Store, retry_conflicts};

use crate::args::CommonArgs;

/// Loads the configuration; with `--print-config` prints it and answers `None`.
///
/// # Errors
/// When a file cannot be read, or a key is not known or has a value that does not fit.
#[expect(clippy::print_stdout, reason = "--print-config prints")]
pub fn configuration<T>(common: &CommonArgs, flags: Vec<(String, Value)>) -> anyhow::Result<Option<T>>
where
    T: Serialize + DeserializeOwned + Default,
{
    let loaded: Loaded<T> = runtime::config::load(common.config.as_deref(), std::env::vars(), flags)?;
    if common.print_config {
        print!("{}", loaded.print());
        return Ok(None);
    }
    Ok(Some(loaded.value))
}

/// The id that a Config resource holds; drawn once, also when several instances start together.
///
/// # Errors
/// The store's.
pub async fn stored_id(store: &Store, name: &str, labels: &Labels, now: Timestamp) -> anyhow::Result<String> {
    let key = Key::global(Kind::CONFIG, name);
    retry_conflicts(&**store, &key, |stored| {
        let drawn = Config { config: uuid::Uuid::new_v4().to_string() };
        let builder = Resource::builder(key.clone()).labels(labels.clone()).spec(&drawn).at(now);
        stored.is_none().then(|| builder.build())
    })
    .await?;
    let stored = store.get(&key).await?.with_context(|| format!("the store lost {name}"))?;
    Ok(stored.resource.spec::<Config>()?.config.clone())
}
