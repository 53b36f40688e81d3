//! A peer's messages on a KDS stream: requests to the serving side, responses to the consuming side, which writes them.

#![no_main]

use std::sync::Arc;

use futures::executor::block_on;
use kds::{ClientSession, Everything, Metrics, Outgoing, Receiver, Role, ServerSession, View, node};
use kds_proto::discovery::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use libfuzzer_sys::fuzz_target;
use model::{Key, Kind, Resource, Timestamp, labels};
use prost::Message;
use store::{MemoryStore, Snapshot, Store};

fn view() -> Arc<View> {
    let mesh = Resource::builder(Key::global(Kind::MESH, "default")).label(labels::ORIGIN, "global").build();
    let snapshot = Arc::new(Snapshot::default().with(mesh));
    Arc::new(View::default().advance(snapshot, &Outgoing::FromGlobal { public_key_of: |_| None }))
}

fuzz_target!(|bytes: &[u8]| {
    let Some((side, bytes)) = bytes.split_first() else { return };
    if side % 2 == 0 {
        let mut session = ServerSession::new("fuzz", view(), Box::new(Everything));
        // Several messages of one stream: each after its length.
        let mut rest = bytes;
        while let Ok(request) = DeltaDiscoveryRequest::decode_length_delimited(&mut rest) {
            session.request(request);
            if rest.is_empty() {
                return;
            }
        }
        return;
    }
    let Ok(response) = DeltaDiscoveryResponse::decode(bytes) else { return };
    let client = ClientSession::new(node("east", "fuzz", "fuzz", "{}"));
    let role = if side % 4 == 1 { Role::Zone } else { Role::Global { zone: "east".into() } };
    if let Ok(batch) = client.response(response) {
        let store: Store = Arc::new(MemoryStore::new());
        let receiver = Receiver::new(store, role, Metrics::default());
        let applied = block_on(receiver.apply(&batch, Timestamp::EPOCH)).expect("memory takes any write");
        assert_eq!(client.answer(&batch, &applied.rejected).error_detail.is_none(), applied.rejected.is_empty());
    }
});
