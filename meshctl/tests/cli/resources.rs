//! `get`, `apply` and `delete`.

use serde_json::json;

use crate::fake::Fake;
use crate::run::Home;

fn words(text: &str) -> Vec<String> {
    text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
}

#[tokio::test]
async fn all_pages_of_a_list_are_shown() {
    let (cp, home) = (Fake::start(), Home::new());
    for name in ["a", "b", "c", "d", "e"] {
        let document = json!({"type": "MeshTimeout", "mesh": "m", "name": name, "spec": {}});
        cp.put(&format!("/meshes/m/meshtimeouts/{name}"), document);
    }
    let out = home.ok(&format!("get mesh-timeouts --mesh m {}", cp.flag())).await;
    assert_eq!(words(&out)[0], "MESH NAME TARGET AGE");
    assert_eq!(words(&out)[1..], ["m a Mesh -", "m b Mesh -", "m c Mesh -", "m d Mesh -", "m e Mesh -"]);
    assert_eq!(
        cp.lines(),
        [
            "GET /meshes/m/meshtimeouts?size=1000",
            "GET /meshes/m/meshtimeouts?offset=2&size=2",
            "GET /meshes/m/meshtimeouts?offset=4&size=2",
        ]
    );
    let out = home.ok(&format!("get mt -A -o json {}", cp.flag())).await;
    let list: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert_eq!((&list["total"], list["items"].as_array().unwrap().len()), (&json!(5), 5));
    cp.seen();
    home.ok(&format!("get mt -A -l kuma.io/zone=east {}", cp.flag())).await;
    assert_eq!(
        cp.lines().first().unwrap(),
        "GET /meshtimeouts?filter%5Blabels.kuma.io%2Fzone%5D=east&size=1000"
    );
}

#[tokio::test]
async fn pages_that_do_not_end_are_noticed() {
    let (cp, home) = (Fake::start(), Home::new());
    let page = json!({"items": [{"name": "a"}], "next": "http://x/meshes?size=1000"}).to_string();
    cp.play("GET /meshes?size=1000", 200, &page);
    let ended = home.run(&format!("get meshes {}", cp.flag())).await;
    assert!(!ended.success && ended.err.contains("its pages do not end"), "{ended:?}");
}

#[tokio::test]
async fn an_empty_list_and_an_unknown_kind_are_explained() {
    let (cp, home) = (Fake::start(), Home::new());
    let ended = home.run(&format!("get meshretries {}", cp.flag())).await;
    assert!(ended.success && ended.out.is_empty(), "{ended:?}");
    assert!(ended.err.contains("no Mesh Retries in mesh default; --all-meshes"), "{ended:?}");
    let ended = home.run(&format!("get meshretris {}", cp.flag())).await;
    assert!(!ended.success && ended.err.contains("did you mean"), "{ended:?}");
    let ended = home.run(&format!("get mesh none {}", cp.flag())).await;
    assert_eq!(ended.err, "error: cannot get Mesh none: Could not retrieve a resource (Not found)\n");
}

#[tokio::test]
async fn what_get_prints_apply_reads() {
    let (cp, home) = (Fake::start(), Home::new());
    for name in ["a", "b"] {
        cp.put(
            &format!("/meshes/m/meshtimeouts/{name}"),
            json!({"type": "MeshTimeout", "mesh": "m", "name": name, "kri": format!("kri_{name}"),
                "labels": {"on": "yes"}, "spec": {"to": [{"default": {"idleTimeout": "10s"}}]}}),
        );
    }
    for format in ["yaml", "json"] {
        let printed = home.ok(&format!("get meshtimeouts --mesh m -o {format} {}", cp.flag())).await;
        let applied = home.run_with(&format!("apply -f - {}", cp.flag()), &[], &printed).await;
        assert!(applied.success, "{applied:?}");
        assert_eq!(applied.out, "MeshTimeout m/a unchanged\nMeshTimeout m/b unchanged\n");
    }
    let one = home.ok(&format!("get meshtimeout a --mesh m -o yaml {}", cp.flag())).await;
    assert!(one.starts_with("type: MeshTimeout\nmesh: m\nname: a\n"), "{one}");
}

#[tokio::test]
async fn apply_goes_on_past_what_is_refused() {
    let (cp, home) = (Fake::start(), Home::new());
    let policies = "type: MeshTimeout\nmesh: demo\nname: good\n---\n\
        type: MeshTimeout\nmesh: demo\nname: bad-one\n---\n\
        type: MeshTimeot\nname: x\n---\n\
        a: [\n---\n\
        type: MeshRetry\nmesh: demo\nname: old-one\n---\n\
        type: MeshTimeout\nmesh: demo\nname: good\n";
    home.file("all/1-policies.yaml", policies);
    home.file("all/2-mesh.json", r#"{"type": "Mesh", "name": "demo"}"#);
    home.file("all/notes.txt", "not a manifest");
    let ended = home.run(&format!("apply -f all {}", cp.flag())).await;
    assert!(!ended.success);
    assert_eq!(
        ended.out,
        "Mesh demo created\nMeshTimeout demo/good created\nMeshRetry demo/old-one created\n"
    );
    for told in [
        "error: all/1-policies.yaml, document 2 (line 5): MeshTimeout demo/bad-one: \
         Could not process a resource (Resource is not valid)\n  * spec.to[0].default: must be set\n",
        "error: all/1-policies.yaml, document 3 (line 9): type: unknown type \"MeshTimeot\"; \
         did you mean \"MeshTimeout\"?\n",
        "error: all/1-policies.yaml, document 4 (line 12): ",
        "error: all/1-policies.yaml, document 6 (line 18): MeshTimeout demo/good is a duplicate of \
         all/1-policies.yaml, document 1 (line 1)\n",
        "warning: all/1-policies.yaml, document 5 (line 14): MeshRetry demo/old-one: use another\n",
        "warning: all/1-policies.yaml, document 5 (line 14): MeshRetry demo/old-one: it is old\n",
        "error: 4 of 7 resources are not applied\n",
    ] {
        assert!(ended.err.contains(told), "{told:?} is not in\n{}", ended.err);
    }
    let puts: Vec<_> = cp.lines().into_iter().filter(|line| line.starts_with("PUT")).collect();
    assert_eq!(puts[0], "PUT /meshes/demo", "the mesh comes first");

    home.file("good.yaml", "type: MeshTimeout\nmesh: demo\nname: good\nspec: {to: []}\n");
    assert_eq!(
        home.ok(&format!("apply -f good.yaml {}", cp.flag())).await,
        "MeshTimeout demo/good updated\n"
    );
    assert_eq!(
        home.ok(&format!("apply -f good.yaml {}", cp.flag())).await,
        "MeshTimeout demo/good unchanged\n"
    );
}

#[tokio::test]
async fn a_resource_without_mesh_goes_to_the_one_named() {
    let (cp, home) = (Fake::start(), Home::new());
    home.file("t.yaml", "type: MeshTimeout\nname: t\n");
    home.ok(&format!("apply -f t.yaml --mesh demo {}", cp.flag())).await;
    assert_eq!(cp.document("/meshes/demo/meshtimeouts/t").unwrap()["mesh"], "demo");
}

#[tokio::test]
async fn a_dry_run_of_the_client_asks_nobody() {
    let home = Home::new();
    let manifest = "type: Dataplane\nname: d\nnetworking:\n  adress: 127.0.0.1\n  address: 127.0.0.1\n\
        ---\ntype: Mesh\nname: Demo_Mesh\n---\ntype: Mesh\nname: demo\n";
    home.file("m.yaml", manifest);
    let ended = home.run("apply -f m.yaml --dry-run=client --address http://127.0.0.1:1").await;
    assert!(!ended.success);
    let first =
        "# Mesh demo would be created\ntype: Mesh\nname: demo\n---\n# Dataplane default/d would be created\n";
    assert!(ended.out.starts_with(first), "{ended:?}");
    assert!(ended.err.contains("unknown field \"networking.adress\" is ignored; did you mean \"address\"?"));
    assert!(
        ended.err.contains("m.yaml, document 2 (line 7): Mesh Demo_Mesh: Resource is not valid\n  * name: ")
    );
    assert!(ended.err.ends_with("error: 1 of 3 resources would not be applied\n"), "{ended:?}");
}

#[tokio::test]
async fn unreadable_manifests_are_named() {
    let home = Home::new();
    home.file("empty.yaml", "# nothing\n");
    std::fs::create_dir(home.path().join("folder")).unwrap();
    for (line, told) in [
        ("apply -f none.yaml", "cannot read none.yaml: No such file"),
        ("apply -f empty.yaml", "empty.yaml holds no document"),
        ("apply -f folder", "folder has no file that ends in"),
    ] {
        let ended = home.run(line).await;
        assert!(!ended.success && ended.err.contains(told), "{ended:?}");
    }
}

#[tokio::test]
async fn delete_tells_what_it_could_not() {
    let (cp, home) = (Fake::start(), Home::new());
    cp.put("/meshes/m/secrets/s", json!({"type": "Secret", "mesh": "m", "name": "s"}));
    let ended = home.run(&format!("delete secret none s --mesh m {}", cp.flag())).await;
    assert!(!ended.success);
    assert_eq!(ended.out, "Secret m/s deleted\n");
    assert_eq!(
        ended.err,
        "error: cannot delete Secret m/none: Could not delete a resource (Not found)\n\
         error: 1 of 2 resources are not deleted\n"
    );
    assert_eq!(cp.document("/meshes/m/secrets/s"), None);
}
