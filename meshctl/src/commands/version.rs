//! `version`: this program's, and the control plane's if it answers.

use serde_json::Value;

use crate::client::ClientError;
use crate::error::Error;
use crate::server::ServerArgs;
use crate::terminal::Terminal;

pub(crate) async fn run(server: &ServerArgs, terminal: &mut Terminal) -> Result<(), Error> {
    terminal.line(concat!("meshctl ", env!("CARGO_PKG_VERSION")))?;
    let mut client = server.client(terminal)?;
    match client.get_json("/").await {
        Ok(index) => {
            let index = Index::read(&index);
            terminal.line(format_args!(
                "server  {} (product {}, {} at {})",
                index.version,
                index.product,
                index.instance,
                client.address()
            ))?;
        }
        Err(error @ ClientError::Unreachable { .. }) => {
            terminal.note(format_args!("server  unknown: {error}"))?
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// What a control plane says of itself.
#[derive(Debug, serde::Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Index {
    pub(crate) product: String,
    pub(crate) version: String,
    pub(crate) instance: String,
}

impl Index {
    pub(crate) fn read(document: &Value) -> Self {
        let text = |key| document.get(key).and_then(Value::as_str).unwrap_or("unknown").to_owned();
        Self { product: text("product"), version: text("version"), instance: text("instanceId") }
    }
}
