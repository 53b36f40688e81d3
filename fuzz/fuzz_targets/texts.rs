//! Small languages: identifiers, durations, templates and labels.

#![no_main]

use libfuzzer_sys::fuzz_target;
use model::duration::GoDuration;
use model::{Kri, Labels, Violations, hostnames, sni, validation};

fuzz_target!(|text: &str| {
    if let Ok(kri) = Kri::parse(text) {
        assert_eq!(Kri::parse(&kri.to_string()), Ok(kri.clone()));
        let _ = (sni::of(&kri), sni::text(&kri));
    }
    if let Ok(duration) = text.parse::<GoDuration>() {
        assert_eq!(duration.to_string().parse(), Ok(duration));
    }
    let _ = hostnames::check_template(text);
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    let labels = Labels::from([(key.to_owned(), value.to_owned())]);
    validation::check_labels(&labels, &mut Violations::default());
});
