//! What etcd's errors mean for a caller.

use etcd_client::Error;
use tonic::Code;

use crate::contract::StoreError;

/// A failed call.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server may or may not have done it.
    Passing(String),
    /// The server did not do it.
    Known(StoreError),
}

impl Failure {
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, Self::Passing(_))
    }

    pub(super) fn into_store(self) -> StoreError {
        match self {
            Self::Passing(reason) => StoreError::Unavailable { reason },
            Self::Known(error) => error,
        }
    }
}

pub(super) fn classify(error: &Error) -> Failure {
    let reason = error.to_string();
    let Error::GRpcStatus(status) = error else {
        return match error {
            Error::TransportError(_) | Error::IoError(_) => Failure::Passing(reason),
            _ => Failure::Known(StoreError::Refused { reason }),
        };
    };
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown | Code::Internal => {
            Failure::Passing(reason)
        }
        Code::ResourceExhausted => Failure::Known(StoreError::Full { reason }),
        _ => Failure::Known(StoreError::Refused { reason }),
    }
}
