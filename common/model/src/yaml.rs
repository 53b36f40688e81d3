//! YAML streams of REST documents.

use serde_json::Value;

/// What any dump may say, however short: what the parser allows by itself.
const SMALL: usize = 250_000;

/// Reads a stream of YAML documents; empty ones are left out.
///
/// # Errors
/// The parser's message, with line and column.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    read(text, serde_saphyr::Options::default())
}

/// Reads a stream as [`documents`] does, except that of a key that is given twice the last value counts: for
/// dumps that other programs wrote. They may be of any size, but hardly say more than they are long.
///
/// # Errors
/// The parser's message, with line and column.
pub fn documents_last_wins(text: &str) -> Result<Vec<Value>, String> {
    // Without aliases each document, value and event takes a byte of text or more, but for the few events that
    // begin and end a stream and its documents.
    let most = text.len().max(SMALL);
    let budget = serde_saphyr::budget! {
        max_documents: most,
        max_nodes: most,
        max_events: most.saturating_mul(4),
        max_total_scalar_bytes: most,
    };
    read(
        text,
        serde_saphyr::options! {
            duplicate_keys: serde_saphyr::DuplicateKeyPolicy::LastWins,
            budget: budget,
        },
    )
}

fn read(text: &str, options: serde_saphyr::Options) -> Result<Vec<Value>, String> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple_with_options(text, options).map_err(|e| e.to_string())?;
    Ok(documents.into_iter().filter(|document| !document.is_null()).collect())
}

/// Writes a document as YAML.
///
/// # Errors
/// When the document holds a number that YAML cannot.
pub fn to_string(document: &impl serde::Serialize) -> Result<String, String> {
    serde_saphyr::to_string(document).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_comments_are_read() {
        let documents = documents("# first\na: 1\n---\n---\nb: two\n").expect("the test's own YAML");
        assert_eq!(documents, [serde_json::json!({"a": 1}), serde_json::json!({"b": "two"})]);
    }

    #[test]
    fn a_dump_has_any_number_of_documents() {
        let read = documents_last_wins(&"a: 1\n---\n".repeat(5_000)).expect("the test's own YAML");
        assert_eq!(read.len(), 5_000);
    }

    #[test]
    fn a_dump_does_not_grow_without_bound() {
        let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..9 {
            let held = format!("*a{}, ", level - 1).repeat(10);
            bomb += &format!("a{level}: &a{level} [{held}]\n");
        }
        assert!(documents_last_wins(&bomb).is_err());
    }

    #[test]
    fn a_broken_document_says_where() {
        assert!(documents("a: [1\n").is_err());
        assert_eq!(documents_last_wins("a: 1\na: 2\n"), Ok(vec![serde_json::json!({"a": 2})]));
        assert!(documents("a: 1\na: 2\n").expect_err("a duplicate key").contains("duplicate"));
    }
}
