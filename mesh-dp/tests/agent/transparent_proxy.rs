//! `mesh-dp install transparent-proxy` with the real tools, in network namespaces of the test's own.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::{Uid, gettid, setfsuid};

/// The user that stands for mesh-dp and Envoy.
const AGENT: u32 = 5678;
/// One whose outbound port 9001 is excluded.
const SPARED: u32 = 5700;
/// Any other.
const APPLICATION: u32 = 5701;
/// Long enough for a loaded machine; a packet that is dropped ends a test here.
const PATIENCE: Duration = Duration::from_secs(20);

const VM: &str = "10.9.0.1";
const PEER: &str = "10.9.0.2";
const VM6: &str = "fd09::1";
const PEER6: &str = "fd09::2";

type Job = Box<dyn FnOnce() + Send>;

/// A network namespace: a thread that is in it, and what it starts.
struct Namespace {
    jobs: mpsc::Sender<Job>,
    thread: String,
}

impl Namespace {
    fn new() -> Self {
        let (jobs, work) = mpsc::channel::<Job>();
        let (tx, rx) = mpsc::channel();
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).expect(
                "this test makes network namespaces: it has to run as root (CAP_NET_ADMIN, CAP_SYS_ADMIN)",
            );
            tx.send(gettid().to_string()).unwrap();
            work.into_iter().for_each(|job| job());
        });
        let thread = rx.recv().expect("a network namespace");
        let namespace = Self { jobs, thread };
        namespace.command("ip link set lo up");
        namespace
    }

    /// Runs something in the namespace, and panics with it.
    fn run<T: Send + 'static>(&self, job: impl FnOnce() -> T + Send + 'static) -> T {
        let (tx, rx) = mpsc::channel();
        self.jobs.send(Box::new(move || drop(tx.send(job())))).unwrap();
        rx.recv().expect("the job in the namespace succeeds")
    }

    /// Runs a program, which has to succeed, and tells its output.
    fn command(&self, line: &str) -> String {
        self.feed(line, "")
    }

    fn feed(&self, line: &str, input: &str) -> String {
        let (line, input) = (line.to_owned(), input.to_owned());
        self.run(move || {
            let mut words = line.split_whitespace();
            let mut child = Command::new(words.next().unwrap())
                .args(words)
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()
                .unwrap_or_else(|error| {
                    panic!("`{line}`: {error}; `cargo xtask test` installs what is missing")
                });
            child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
            let output = child.wait_with_output().unwrap();
            assert!(output.status.success(), "`{line}` failed");
            String::from_utf8(output.stdout).unwrap()
        })
    }

    fn mesh_dp(&self, arguments: &str) -> String {
        self.command(&format!("{} {arguments}", env!("CARGO_BIN_EXE_mesh-dp")))
    }

    /// All rules, without counters.
    fn rules(&self) -> String {
        let all = [
            "nft list ruleset",
            "iptables-save",
            "ip6tables-save",
            "iptables-legacy-save",
            "ip6tables-legacy-save",
        ]
        .map(|line| self.command(line));
        // nft lists chains in the order they were made, which says nothing; iptables-save does not.
        let [nft, iptables @ ..] = &all;
        let mut first: Vec<&str> = nft.lines().collect();
        first.sort_unstable();
        let lines = first.into_iter().chain(iptables.iter().flat_map(|text| text.lines())).map(str::trim_end);
        let lines = lines.filter(|line| !line.is_empty() && !line.starts_with(['#', '}']) && *line != "\t}");
        let kept = lines.map(|line| line.split(" [").next().unwrap_or(line));
        kept.collect::<Vec<_>>().join("\n")
    }

    fn listen(&self, address: &str) -> TcpListener {
        let address = address.to_owned();
        self.run(move || TcpListener::bind(address).unwrap())
    }

    fn connect(&self, uid: u32, to: &str) -> TcpStream {
        let to: SocketAddr = to.parse().unwrap();
        self.run(move || {
            setfsuid(Uid::from_raw(uid));
            let stream = TcpStream::connect_timeout(&to, PATIENCE);
            setfsuid(Uid::from_raw(0));
            stream.unwrap_or_else(|error| panic!("{to} as {uid}: {error}"))
        })
    }
}

/// A host and one it talks to.
fn network() -> (Namespace, Namespace) {
    let (vm, peer) = (Namespace::new(), Namespace::new());
    vm.command(&format!("ip link add eth0 type veth peer name eth0 netns {}", peer.thread));
    for (namespace, v4, v6) in [(&vm, VM, VM6), (&peer, PEER, PEER6)] {
        namespace.command(&format!("ip address add {v4}/24 dev eth0"));
        namespace.command(&format!("ip address add {v6}/64 dev eth0 nodad"));
        namespace.command("ip link set eth0 up");
    }
    (vm, peer)
}

/// The listener gets the connection that `connect` makes; where it was meant to go, as Envoy asks for it.
fn original(listener: &TcpListener, connect: impl FnOnce() -> TcpStream) -> SocketAddr {
    let client = connect();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap(), "a connection of somebody else");
    if client.peer_addr().unwrap().is_ipv4() {
        let address = getsockopt(&server.as_fd(), sockopt::OriginalDst).unwrap();
        let ip = Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr));
        return (ip, u16::from_be(address.sin_port)).into();
    }
    let address = getsockopt(&server.as_fd(), sockopt::Ip6tOriginalDst).unwrap();
    (Ipv6Addr::from(address.sin6_addr.s6_addr), u16::from_be(address.sin6_port)).into()
}

/// A connection that reaches its destination as if there were no rules.
fn direct(listener: &TcpListener, connect: impl FnOnce() -> TcpStream) {
    let client = connect();
    let (server, _) = listener.accept().unwrap();
    assert_eq!(server.local_addr().unwrap(), client.peer_addr().unwrap());
    assert_eq!(server.peer_addr().unwrap(), client.local_addr().unwrap(), "a connection of somebody else");
}

const FLAGS: &str = "--kuma-dp-user 5678 --exclude-inbound-ports 22,8081-8082 --exclude-outbound-ports 9000 \
     --exclude-outbound-ports-for-uids tcp:9001:5700 --redirect-all-dns-traffic";

fn traffic(backend: &str) {
    let (vm, peer) = network();
    vm.feed("iptables-nft-restore --noflush", "*nat\n-A OUTPUT -d 192.0.2.1/32 -p udp -j RETURN\nCOMMIT\n");
    vm.feed(
        "nft -f -",
        "table inet others { chain a { type filter hook input priority 0; tcp dport 1 drop; }; }\n",
    );
    let before = vm.rules();
    let install = format!("install transparent-proxy --backend {backend} {FLAGS}");
    let shown = vm.mesh_dp(&format!("{install} --dry-run"));
    assert!(shown.contains("15006"), "{shown}");
    assert_eq!(vm.rules(), before, "a dry run changes nothing");
    vm.mesh_dp(&install);
    let installed = vm.rules();
    vm.mesh_dp(&install);
    assert_eq!(vm.rules(), installed, "installing again changes nothing");

    for (here, there, any) in [(VM, PEER, "0.0.0.0"), ("[fd09::1]", "[fd09::2]", "[::]")] {
        let (outbound, inbound) = (vm.listen(&format!("{any}:15001")), vm.listen(&format!("{any}:15006")));
        let application = format!("{here}:8080");
        assert_eq!(original(&inbound, || peer.connect(0, &application)), application.parse().unwrap());
        let excluded = format!("{here}:8081");
        direct(&vm.listen(&excluded), || peer.connect(0, &excluded));
        let to = format!("{there}:8080");
        assert_eq!(original(&outbound, || vm.connect(APPLICATION, &to)), to.parse().unwrap());
        direct(&peer.listen(&to), || vm.connect(AGENT, &to));
        let excluded = format!("{there}:9000");
        direct(&peer.listen(&excluded), || vm.connect(APPLICATION, &excluded));
        let of_user = format!("{there}:9001");
        assert_eq!(original(&outbound, || vm.connect(APPLICATION, &of_user)), of_user.parse().unwrap());
        direct(&peer.listen(&of_user), || vm.connect(SPARED, &of_user));
        // The application to its own address is not redirected, Envoy's own connection to it is.
        direct(&vm.listen(&application), || vm.connect(APPLICATION, &application));
        assert_eq!(original(&inbound, || vm.connect(AGENT, &application)), application.parse().unwrap());
    }
    for (server, local) in [(PEER, "127.0.0.1"), ("[fd09::2]", "[::1]")] {
        dns(&vm, &peer, server, local);
    }

    vm.mesh_dp("uninstall transparent-proxy");
    let after = vm.rules();
    assert!(!after.to_lowercase().contains("kuma"), "{after}");
    assert!(after.contains("192.0.2.1") && after.contains("table inet others"), "{after}");
    assert_eq!(vm.mesh_dp("uninstall transparent-proxy --verbose"), "", "nothing is left to do");
    let to = format!("{PEER}:8080");
    direct(&peer.listen(&to), || vm.connect(APPLICATION, &to));
}

/// A query of an application goes to the agent and its answer seems to come from the server; the agent's goes out.
fn dns(vm: &Namespace, peer: &Namespace, server: &str, local: &str) {
    let bind = |namespace: &Namespace, uid: u32, address: String| {
        namespace.run(move || {
            setfsuid(Uid::from_raw(uid));
            let socket = UdpSocket::bind(address);
            setfsuid(Uid::from_raw(0));
            let socket = socket.unwrap();
            socket.set_read_timeout(Some(PATIENCE)).unwrap();
            socket
        })
    };
    let any = if server.starts_with('[') { "[::]:0" } else { "0.0.0.0:0" };
    let to: SocketAddr = format!("{server}:53").parse().unwrap();
    let agent = bind(vm, AGENT, format!("{local}:15053"));
    let upstream = bind(peer, 0, to.to_string());
    let query = |uid: u32, at: &UdpSocket| {
        let client = bind(vm, uid, any.to_owned());
        client.send_to(b"query", to).unwrap();
        let mut buffer = [0; 16];
        let (_, from) = at.recv_from(&mut buffer).unwrap();
        at.send_to(b"answer", from).unwrap();
        assert_eq!(client.recv_from(&mut buffer).unwrap(), (b"answer".len(), to));
    };
    query(APPLICATION, &agent);
    query(AGENT, &upstream);
}

#[test]
fn traffic_is_redirected_by_nftables() {
    traffic("nftables");
}

#[test]
fn traffic_is_redirected_by_iptables() {
    traffic("iptables");
}

#[test]
fn one_tool_replaces_what_the_other_installed() {
    let vm = Namespace::new();
    let install = |backend: &str| {
        vm.mesh_dp(&format!("install transparent-proxy --kuma-dp-user 5678 --backend {backend}"));
        vm.rules()
    };
    let (nft, iptables) = (install("nftables"), install("iptables"));
    assert!(nft.contains("table ip6 kuma_mesh") && !nft.contains("KUMA_MESH"), "{nft}");
    assert!(iptables.contains("KUMA_MESH_INBOUND") && !iptables.contains("kuma_mesh"), "{iptables}");
    let only_v4 =
        vm.mesh_dp("install transparent-proxy --kuma-dp-user 5678 --backend iptables --ip-family-mode ipv4");
    assert!(!only_v4.contains("ip6tables"), "{only_v4}");
    assert!(!vm.command("ip6tables-save").contains("KUMA_MESH"));
}

#[test]
fn rules_are_put_where_iptables_is_in_use() {
    let vm = Namespace::new();
    vm.feed("iptables-legacy-restore --noflush", "*nat\n-A OUTPUT -d 192.0.2.1/32 -j RETURN\nCOMMIT\n");
    vm.mesh_dp("install transparent-proxy --kuma-dp-user 5678 --backend iptables");
    assert!(vm.command("iptables-legacy-save").contains("KUMA_MESH_OUTBOUND"));
    assert!(!vm.command("iptables-nft-save").contains("KUMA_MESH_OUTBOUND"));
    vm.mesh_dp("uninstall transparent-proxy");
    let after = vm.command("iptables-legacy-save");
    assert!(after.contains("192.0.2.1") && !after.contains("KUMA_MESH"), "{after}");
}
