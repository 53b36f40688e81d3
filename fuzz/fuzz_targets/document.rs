//! A YAML or JSON document from a user: read, validated, written, and read again to the same content.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::{rest, validation, yaml};

fuzz_target!(|text: &str| {
    let Ok(documents) = yaml::documents(text) else { return };
    for document in documents {
        let Ok(parsed) = rest::parse(&document) else { continue };
        let resource = parsed.resource.build();
        if !validation::validate(&resource).is_empty() {
            continue;
        }
        let Ok(document) = rest::Document::of(&resource) else { continue };
        let written = serde_json::to_value(&document).expect("a document has string keys");
        let again = rest::parse(&written).expect("what we write, we read").resource.build();
        assert!(resource.same_content(&again), "{written}");
    }
});
