//! `inspect`, `status`, `generate`, `version` and `completion`.

use serde_json::{Value, json};

use crate::fake::Fake;
use crate::run::Home;

fn zone(name: &str, disconnected: Option<&str>) -> Value {
    json!({"type": "ZoneOverview", "name": name, "zone": {"enabled": true}, "zoneInsight": {"subscriptions": [{
        "connectTime": "2026-01-01T00:00:00Z", "disconnectTime": disconnected, "zoneInstanceId": "cp-east",
        "globalInstanceId": "global-1", "version": {"kumaCp": {"version": "1.2.3"}},
        "status": {"total": {"responsesSent": "5", "responsesAcknowledged": "4", "responsesRejected": "1"},
            "stat": {"MeshTimeout": {"responsesSent": "5", "responsesAcknowledged": "4", "responsesRejected": "1"}}},
    }]}})
}

fn proxy(name: &str, zone: &str) -> Value {
    json!({"type": "DataplaneOverview", "mesh": "default", "name": name, "labels": {"kuma.io/zone": zone},
        "dataplane": {"networking": {"address": "10.0.0.1", "inbound": [{"port": 80, "name": "http"}]}},
        "dataplaneInsight": {"subscriptions": [{"connectTime": "2026-01-01T00:00:00Z",
            "version": {"kumaDp": {"version": "0.1.0"}, "envoy": {"version": "1.40.0"}},
            "status": {"total": {"responsesSent": "2", "responsesAcknowledged": "2"}}}]}})
}

fn populated() -> Fake {
    let cp = Fake::start();
    cp.put("/zones/east/_overview", zone("east", None));
    cp.put("/zones/west/_overview", zone("west", Some("2026-01-02T00:00:00Z")));
    cp.put("/meshes/default/dataplanes/a/_overview", proxy("a", "east"));
    cp.put("/meshes/default/dataplanes/b/_overview", proxy("b", "west"));
    cp
}

#[tokio::test]
async fn removals_that_wait_are_shown_and_confirmed() {
    let (cp, home) = (Fake::start(), Home::new());
    assert!(home.ok(&format!("removals list {}", cp.flag())).await.contains("No removals wait"));
    let removed = json!([{"type": "MeshService", "mesh": "default", "name": "web"}]);
    let waiting = json!({"total": 1, "items": [{"peer": "east", "resources": removed}]});
    cp.play("GET /withheld-removals", 200, &waiting.to_string());
    cp.play("POST /withheld-removals/east/confirm", 200, r#"{"removed": 1}"#);
    let out = home.ok(&format!("removals list {}", cp.flag())).await;
    let row: Vec<_> = out.lines().nth(1).unwrap_or_default().split_whitespace().collect();
    assert_eq!(row, ["east", "MeshService", "default", "web"], "{out}");
    let out = home.ok(&format!("status {}", cp.flag())).await;
    assert!(out.contains("zone east: 1 removals wait"), "{out}");
    let out = home.ok(&format!("removals confirm east {}", cp.flag())).await;
    assert!(out.contains("1 resources of east removed"), "{out}");
}

#[tokio::test]
async fn status_tells_what_is_not_in_sync() {
    let (cp, home) = (populated(), Home::new());
    let out = home.ok(&format!("status {}", cp.flag())).await;
    let lines: Vec<String> =
        out.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(lines[0], format!("Control plane cp-1 version 9.9.9 at {}", cp.url()));
    assert_eq!(lines[2], "ZONE STATUS SINCE VERSION SENT ACKED REJECTED");
    assert!(lines[3].starts_with("east Online ") && lines[3].ends_with(" 1.2.3 5 4 1"), "{out}");
    assert!(lines[4].starts_with("west Offline "), "{out}");
    assert_eq!(lines[6], "MESH ZONE ONLINE TOTAL AGENT ENVOY");
    assert_eq!(lines[7], "default east 1 1 0.1.0 1.40.0");
    assert!(out.contains("zone east: refused 1 of 5 updates (MeshTimeout 1)"), "{out}");
    assert!(out.contains("zone west: offline since 2026-01-02T00:00:00Z ("), "{out}");
    assert!(!out.contains("proxy default/"), "the proxies are fine: {out}");

    let report: Value =
        serde_json::from_str(&home.ok(&format!("status -o json {}", cp.flag())).await).unwrap();
    assert_eq!(report["zones"][1]["status"], "Offline");
    assert_eq!(report["notInSync"].as_array().unwrap().len(), 3);

    let empty = Fake::start();
    let out = home.ok(&format!("status {}", empty.flag())).await;
    assert!(out.contains("No zones") && out.contains("Everything is in sync"), "{out}");
}

#[tokio::test]
async fn tables_of_zones_and_dataplanes_tell_who_is_there() {
    let (cp, home) = (populated(), Home::new());
    let out = home.ok(&format!("get zones {}", cp.flag())).await;
    assert!(out.starts_with("NAME   STATUS    SINCE"), "{out}");
    assert!(out.contains("west   Offline"), "{out}");
    let out = home.ok(&format!("get dataplane a {}", cp.flag())).await;
    assert!(out.contains("default   a      east   Online   10.0.0.1   80/http"), "{out}");
}

#[tokio::test]
async fn inspect_asks_for_what_was_named() {
    let (cp, home) = (populated(), Home::new());
    let out = home.ok(&format!("inspect dataplane a {}", cp.flag())).await;
    assert!(out.contains("Status:       Online\n") && out.contains("2 sent, 2 acknowledged"), "{out}");
    let out = home.ok(&format!("inspect zone west {}", cp.flag())).await;
    assert!(out.contains("Status:       Offline\n") && out.contains("Served by:    global-1\n"), "{out}");
    let out = home.ok(&format!("inspect zone west -o yaml {}", cp.flag())).await;
    assert!(out.starts_with("type: ZoneOverview\nname: west\n"), "{out}");
    cp.seen();
    for (topic, path, body) in [
        ("config", "_config", "{}"),
        ("config --shadow", "_config?shadow=true&include=diff", "{}"),
        ("config-dump", "xds", "{\"configs\": []}"),
        ("config-dump --include-eds", "xds?include_eds=true", "{}"),
        ("stats", "stats", "a: 1\nb: 2\n"),
        ("stats -o json", "stats?format=json", "{}"),
        ("clusters", "clusters", "c::observability_name::c\n"),
        ("policies -o json", "_policies", "{\"policies\": []}"),
    ] {
        let request = format!("GET /meshes/m/dataplanes/a/{path}");
        cp.play(&request, 200, body);
        let out = home.ok(&format!("inspect dataplane a --mesh m --type {topic} {}", cp.flag())).await;
        assert_eq!(cp.lines(), [request]);
        assert_eq!(out.split_whitespace().collect::<String>(), body.split_whitespace().collect::<String>());
    }
    cp.play(
        "GET /meshes/m/dataplanes/a/_config",
        405,
        r#"{"title": "Method not allowed", "detail": "Not allowed on global CP"}"#,
    );
    let ended = home.run(&format!("inspect dataplane a --mesh m --type config {}", cp.flag())).await;
    let told = "error: cannot inspect dataplane m/a: Method not allowed (Not allowed on global CP)\n";
    assert_eq!(ended.err, told);
}

#[tokio::test]
async fn tokens_are_asked_for_with_ones_own() {
    let (cp, home) = (Fake::start(), Home::new());
    cp.play("POST /tokens/zone", 200, "the.new.token");
    cp.play("POST /tokens/user", 403, r#"{"title": "Access Denied", "detail": "user \"a\" cannot"}"#);
    let file = home.file("admin.token", "the-admin-token\n");
    let line = format!("generate zone-token --zone east --valid-for 1d --token-file {}", file.display());
    assert_eq!(home.ok(&format!("{line} {}", cp.flag())).await, "the.new.token\n");
    let seen = cp.seen().remove(0);
    assert_eq!(seen.authorization.as_deref(), Some("Bearer the-admin-token"));
    assert_eq!(seen.body, json!({"zone": "east", "validFor": "86400s"}));

    let env = [("ISTHMUS_TOKEN", "other"), ("ISTHMUS_ADDRESS", &cp.url())];
    let ended = home.run_with("generate user-token --name b --valid-for 1h", &env, "").await;
    assert!(!ended.success && ended.err.contains("Access Denied (user \"a\" cannot)\n  hint: "), "{ended:?}");
    assert_eq!(cp.seen()[0].authorization.as_deref(), Some("Bearer other"));
}

#[tokio::test]
async fn version_and_completion_work_without_a_control_plane() {
    let home = Home::new();
    let ended = home.run("version --address http://127.0.0.1:1").await;
    assert!(ended.success && ended.out.starts_with("meshctl "), "{ended:?}");
    assert!(ended.err.contains("server  unknown: nothing answers at http://127.0.0.1:1"), "{ended:?}");
    let cp = Fake::start();
    let out = home.ok(&format!("version {}", cp.flag())).await;
    assert!(out.contains("server  9.9.9 (product Kuma, cp-1 at http://127.0.0.1:"), "{out}");
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        assert!(home.ok(&format!("completion {shell}")).await.contains("config-dump"), "{shell}");
    }
}
