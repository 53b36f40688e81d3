//! Kinds by any of their names.

use model::Kind;

/// A name that no kind has.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind {name:?}{}; `meshctl get --help` lists them all", nearest.map(|near| format!(", did you mean {near:?}?")).unwrap_or_default())]
pub(crate) struct UnknownKind {
    name: String,
    nearest: Option<&'static str>,
}

/// The kind with this name: its type, plural, short name or path, in any case and with or without hyphens.
pub(crate) fn resolve(name: &str) -> Result<Kind, UnknownKind> {
    let wanted = plain(name);
    let found = served().find(|kind| names(*kind).any(|known| plain(known) == wanted));
    found.ok_or_else(|| {
        let known = served().flat_map(names);
        UnknownKind { name: name.to_owned(), nearest: model::schema::nearest(name, known) }
    })
}

/// Kinds that REST shows.
pub(crate) fn served() -> impl Iterator<Item = Kind> {
    Kind::all().filter(|kind| kind.path.is_some())
}

fn names(kind: Kind) -> impl Iterator<Item = &'static str> {
    let info = kind.info();
    [Some(info.name), info.path, info.alternative_path, info.short, Some(info.singular), Some(info.plural)]
        .into_iter()
        .flatten()
}

fn plain(name: &str) -> String {
    name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).map(|c| c.to_ascii_lowercase()).collect()
}

/// The list of kinds for `--help`.
pub(crate) fn help() -> String {
    let mut text = String::from("Kinds (short name):\n");
    for kind in served() {
        let short = kind.short.map(|short| format!(" ({short})")).unwrap_or_default();
        text.push_str(&format!("  {}{short}\n", kind.path.unwrap_or_default()));
    }
    text
}

/// Where the items of a kind are listed: of one mesh, or of all when there is none.
pub(crate) fn collection(kind: Kind, mesh: Option<&str>) -> String {
    let path = kind.path.unwrap_or_default();
    match mesh.filter(|_| kind.is_mesh_scoped()) {
        Some(mesh) => format!("/meshes/{}/{path}", segment(mesh)),
        None => format!("/{path}"),
    }
}

/// Where one resource is.
pub(crate) fn item(kind: Kind, mesh: &str, name: &str) -> String {
    format!("{}/{}", collection(kind, Some(mesh)), segment(name))
}

/// A resource as messages name it.
pub(crate) fn shown(kind: Kind, mesh: &str, name: &str) -> String {
    model::Key::new(kind, mesh, name).to_string()
}

/// Percent-encodes what may not stand in one segment of a path or a query value (RFC 3986, unreserved).
pub(crate) fn segment(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    // These two would be resolved as steps of the path.
    match encoded.as_str() {
        "." => "%2E".to_owned(),
        ".." => "%2E%2E".to_owned(),
        _ => encoded,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn every_name_of_a_kind_finds_it() {
        for name in ["MeshService", "meshservices", "msvc", "mesh-service", "Mesh Services", "MESHSERVICE"] {
            assert_eq!(resolve(name).unwrap(), Kind::MESH_SERVICE, "{name}");
        }
        assert_eq!(resolve("m").unwrap(), Kind::MESH);
        assert_eq!(resolve("dp").unwrap(), Kind::DATAPLANE);
        assert_eq!(resolve("global-secret").unwrap(), Kind::GLOBAL_SECRET);
        assert_eq!(resolve("zones").unwrap(), Kind::ZONE);
    }

    #[test]
    fn no_name_means_two_kinds() {
        let mut owners = BTreeMap::new();
        for kind in served() {
            for name in names(kind) {
                let owner = *owners.entry(plain(name)).or_insert(kind);
                assert_eq!(owner, kind, "{name}");
            }
        }
    }

    #[test]
    fn a_misspelt_kind_is_told_its_nearest() {
        let error = resolve("meshtimout").unwrap_err().to_string();
        assert!(error.contains("did you mean \"meshtimeouts\"") || error.contains("MeshTimeout"), "{error}");
        assert!(!resolve("pods").unwrap_err().to_string().contains("did you mean"));
    }

    #[test]
    fn paths_escape_what_a_person_typed() {
        assert_eq!(item(Kind::MESH_TIMEOUT, "m", "a/b?c"), "/meshes/m/meshtimeouts/a%2Fb%3Fc");
        assert_eq!(item(Kind::MESH, "ignored", ".."), "/meshes/%2E%2E");
        assert_eq!(collection(Kind::DATAPLANE, None), "/dataplanes");
    }
}
