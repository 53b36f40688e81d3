//! How a stream ended, and whether that means that the proxy left.

use std::error::Error;
use std::io::ErrorKind;
use std::time::Duration;

use tonic::{Status, Streaming};

use super::credentials::Refusal;

/// How long the reason is waited for after responses cannot be sent any more.
const REASON: Duration = Duration::from_secs(1);

/// How a stream ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum End {
    /// The proxy ended the stream or its connection: its process stopped, or it will be back at once.
    #[error("closed by the proxy")]
    Closed,
    /// The connection was given up because nothing came any more: the proxy may well go on.
    #[error("lost: {0}")]
    Lost(String),
    /// A newer stream of the proxy is there.
    #[error("replaced by a newer stream of the proxy")]
    Replaced,
    /// This control plane stops.
    #[error("the control plane is stopping")]
    Stopping,
    /// The proxy asked for too much.
    #[error("{0}")]
    Excess(String),
    /// The proxy's token was taken back.
    #[error("{0}")]
    Refused(Refusal),
}

impl End {
    /// What the end of the request stream means, which a cut of the connection looks like too: `unheard` is how long
    /// nothing has come, `keepalive` how long a proxy has to answer a sign of life.
    pub(super) fn of_none(unheard: Duration, keepalive: Duration) -> Self {
        if unheard < keepalive / 2 { Self::Closed } else { Self::Lost(format!("silent for {unheard:?}")) }
    }

    /// What an error of the request stream means.
    pub(super) fn of(status: &Status) -> Self {
        let mut source: Option<&(dyn Error + 'static)> = status.source();
        while let Some(error) = source {
            if let Some(error) = error.downcast_ref::<h2::Error>()
                && (error.is_reset() && error.is_remote() || error.get_io().is_some_and(closed))
            {
                return Self::Closed;
            }
            if error.downcast_ref::<std::io::Error>().is_some_and(closed) {
                return Self::Closed;
            }
            source = error.source();
        }
        Self::Lost(status.message().to_owned())
    }

    /// Why responses cannot be sent any more.
    pub(super) async fn of_requests<T>(requests: &mut Streaming<T>, none: impl Fn() -> Self) -> Self {
        let end = async {
            loop {
                match requests.message().await {
                    Ok(Some(_)) => {}
                    Ok(None) => return none(),
                    Err(status) => return Self::of(&status),
                }
            }
        };
        let unknown = |_| Self::Lost("the proxy takes no responses".into());
        tokio::time::timeout(REASON, end).await.unwrap_or_else(unknown)
    }

    /// Whether the proxy ended it.
    pub(super) fn is_departure(&self) -> bool {
        *self == Self::Closed
    }

    /// Whether nobody knows how the proxy is.
    pub(super) fn is_silence(&self) -> bool {
        matches!(self, Self::Lost(_))
    }

    /// What the proxy is told, if it can still be told anything.
    pub(super) fn status(&self) -> Option<Status> {
        match self {
            Self::Closed | Self::Lost(_) => None,
            Self::Replaced => Some(Status::aborted(self.to_string())),
            Self::Stopping => Some(Status::unavailable(self.to_string())),
            Self::Excess(_) => Some(Status::resource_exhausted(self.to_string())),
            Self::Refused(refusal) => Some(refusal.status()),
        }
    }
}

/// What a peer's end of a connection looks like when its process ends.
fn closed(error: &std::io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::UnexpectedEof
            | ErrorKind::NotConnected
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_proxy_ended_is_a_departure() {
        let of = |kind: ErrorKind| End::of(&Status::from_error(Box::new(std::io::Error::from(kind))));
        assert!(of(ErrorKind::BrokenPipe).is_departure());
        assert!(of(ErrorKind::ConnectionReset).is_departure());
        assert!(!of(ErrorKind::TimedOut).is_departure());
        assert!(!End::of(&Status::unknown("keep-alive timed out")).is_departure());
        let keepalive = Duration::from_secs(10);
        assert!(End::of_none(Duration::from_secs(1), keepalive).is_departure());
        assert!(End::of_none(Duration::from_secs(11), keepalive).is_silence());
        assert!(!End::Replaced.is_departure() && !End::Stopping.is_departure());
    }
}
