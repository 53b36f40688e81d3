//! What a control plane has acknowledged survives SIGKILL at any moment.

#![allow(clippy::unwrap_used, reason = "a failed assumption of a test is a failed test")]

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use e2e::api::Api;
use e2e::launch::Launcher;
use e2e::patience::Patience;
use e2e::plane::{ControlPlane, Toolbox};
use e2e::process::Program;
use serde_json::{Value, json};

/// How often the process is killed, each time after so many acknowledged writes.
const KILLS: [usize; 4] = [1, 7, 23, 40];
/// Writers at the same time.
const WRITERS: usize = 3;

fn start(folder: &Path) -> ControlPlane {
    let own = std::env::current_exe().unwrap();
    let binaries = own.parent().and_then(Path::parent).unwrap().to_owned();
    let toolbox = Toolbox {
        launcher: Launcher::new(env!("CARGO_BIN_EXE_e2e-child")),
        envoy: "no-envoy".into(),
        patience: Patience::new(Duration::from_secs(60)),
        binaries: binaries.clone(),
    };
    let log = folder.join("global-cp.log");
    let program = Program::new("global-cp", &binaries.join("global-cp"), &log).arg("run");
    ControlPlane::start(&toolbox, program.flag("--kds-address", "127.0.0.1"), &folder.join("data"))
        .unwrap_or_else(|error| panic!("{error:#}"))
}

fn timeout(round: usize, writer: usize, number: usize) -> Value {
    // The form in which it is read back.
    let time = format!("{number}h0m0s");
    json!({
        "type": "MeshTimeout", "mesh": "default", "name": format!("t-{round}-{writer}-{number}"),
        "spec": {"to": [{"targetRef": {"kind": "Mesh"}, "default": {"idleTimeout": time}}]},
    })
}

/// Writes until the control plane is gone; answers what was acknowledged.
fn write(api: Api, round: usize, writer: usize, acknowledged: &AtomicUsize) -> Vec<Value> {
    let mut written = Vec::new();
    for number in 1.. {
        let resource = timeout(round, writer, number);
        let path = format!("/meshes/default/meshtimeouts/{}", resource["name"].as_str().unwrap());
        match api.send("PUT", &path, Some(&resource)) {
            Ok(response) => {
                assert_eq!(response.status, 201, "{}", response.text());
                written.push(resource);
                acknowledged.fetch_add(1, Ordering::SeqCst);
            }
            Err(_) => return written,
        }
    }
    written
}

#[test]
fn every_acknowledged_write_is_there_after_a_kill() {
    let folder = tempfile::tempdir().unwrap();
    let mut global = start(folder.path());
    let mut all = Vec::new();
    for (round, kill_after) in KILLS.into_iter().enumerate() {
        let (api, acknowledged) = (global.api(), Arc::new(AtomicUsize::new(0)));
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let acknowledged = Arc::clone(&acknowledged);
                std::thread::spawn(move || write(api, round, writer, &acknowledged))
            })
            .collect();
        while acknowledged.load(Ordering::SeqCst) < kill_after {
            assert!(!writers.iter().all(std::thread::JoinHandle::is_finished), "no writer goes on");
            std::thread::yield_now();
        }
        global.process().kill();
        all.extend(writers.into_iter().flat_map(|writer| writer.join().unwrap()));
        global.start_again().unwrap_or_else(|error| panic!("{error:#}"));
        for resource in &all {
            let name = resource["name"].as_str().unwrap();
            let found = global.api().get(&format!("/meshes/default/meshtimeouts/{name}")).unwrap();
            assert_eq!(found["spec"], resource["spec"], "{name}");
        }
    }
    assert!(all.len() >= KILLS.iter().sum());
}
