//! A real etcd on loopback, stopped when dropped.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};

use tempfile::TempDir;

/// A running etcd.
pub(crate) struct EtcdServer {
    child: Child,
    folder: TempDir,
    client: u16,
    peer: u16,
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a free port").port()
}

impl EtcdServer {
    pub(crate) fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let (client, peer) = (free_port(), free_port());
        let child = Self::spawn(&folder, client, peer);
        Self { child, folder, client, peer }
    }

    fn spawn(folder: &TempDir, client: u16, peer: u16) -> Child {
        let (client, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let child = Command::new("etcd")
            .arg("--data-dir")
            .arg(folder.path())
            .args(["--listen-client-urls", &client, "--advertise-client-urls", &client])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("default={peer}"), "--logger", "zap"])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("etcd is installed: apt-get install etcd-server");
        let address = client.trim_start_matches("http://").to_owned();
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(30);
        while std::net::TcpStream::connect(&address).is_err() {
            assert!(std::time::Instant::now() < deadline, "etcd does not listen on {address}");
            std::thread::yield_now();
        }
        child
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.client)
    }

    pub(crate) fn stop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub(crate) fn restart(&mut self) {
        self.child = Self::spawn(&self.folder, self.client, self.peer);
    }

    pub(crate) async fn compact(&self, revision: u64) {
        let client = etcd_client::Client::connect([self.endpoint()], None).await.expect("up");
        client.kv_client().compact(revision.cast_signed(), None).await.expect("not compacted yet");
    }
}

impl Drop for EtcdServer {
    fn drop(&mut self) {
        self.stop();
    }
}
