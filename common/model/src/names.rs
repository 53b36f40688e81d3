//! Names that resources take on their way between control planes.

/// FNV-1a, 64 bit, over the concatenation of parts.
pub fn fnv1a64<'a>(parts: impl IntoIterator<Item = &'a str>) -> u64 {
    parts.into_iter().flat_map(str::bytes).fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    })
}

/// Letters and digits that cannot spell a word: the alphabet of Kubernetes' safe encoding.
const ALPHABET: [u8; 27] = *b"bcdfghjklmnpqrstvwxz2456789";

/// Bytes of the display name that a synced name keeps: 253, the longest name, less `-` and 16 digits.
const KEPT: usize = 236;

/// The name under which a resource is known on other control planes: its display name and a hash over
/// mesh, display name, zone and namespace. Idempotent, because all four travel as labels.
///
/// The inputs are concatenated without separators and the alphabet folds two digits into one, so names
/// can collide by construction; the wire demands it, receivers must detect it.
pub fn synced_name(mesh: &str, display_name: &str, zone: Option<&str>, namespace: Option<&str>) -> String {
    let hash = fnv1a64([mesh, display_name, zone.unwrap_or_default(), namespace.unwrap_or_default()]);
    let suffix = format!("{hash:016x}").bytes().map(|digit| char::from(encode(digit))).collect::<String>();
    let mut end = display_name.len().min(KEPT);
    while !display_name.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}-{suffix}", display_name.get(..end).unwrap_or_default())
}

fn encode(digit: u8) -> u8 {
    ALPHABET.get(usize::from(digit) % ALPHABET.len()).copied().unwrap_or(b'b')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn synced_names_are_those_of_the_wire() {
        for (mesh, name, zone, namespace, want) in [
            ("default", "redis-zone-1", Some("zone-1"), None, "redis-zone-1-2v6wfvvcvbc9f55d"),
            ("default", "default-timeout-global", None, None, "default-timeout-global-54dbd4c66zwbcf9c"),
            (
                "default",
                "default-timeout-zone-1",
                Some("zone-1"),
                None,
                "default-timeout-zone-1-c58w24w4vw27f454",
            ),
            ("", "foo", None, None, "foo-zxw6c95d42zfz9cc"),
            ("", "foo", Some("zone-1"), Some("custom-ns"), "foo-696vzv497z4cv4f4"),
        ] {
            assert_eq!(synced_name(mesh, name, zone, namespace), want);
        }
    }

    #[test]
    fn long_names_are_cut_at_a_character() {
        let name = "é".repeat(200);
        assert!(synced_name("m", &name, None, None).len() <= 253);
    }
}
