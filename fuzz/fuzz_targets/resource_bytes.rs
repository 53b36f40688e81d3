//! Bytes of a spec from a peer: the first names the kind, the rest is the payload.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{Key, Kind, Payload, Resource, validation};

fuzz_target!(|bytes: &[u8]| {
    let Some((first, payload)) = bytes.split_first() else { return };
    let kinds: Vec<Kind> = Kind::all().collect();
    let kind = kinds[usize::from(*first) % kinds.len()];
    let mut builder = Resource::builder(Key::new(kind, "default", "a"));
    builder.spec = Payload::from_bytes(payload.to_vec());
    let _ = validation::validate(&builder.build());
});
