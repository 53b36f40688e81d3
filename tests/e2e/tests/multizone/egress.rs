//! What is outside the mesh, through a zone egress that speaks TLS for the callers.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use e2e::http::{Request, send};
use e2e::ports;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned};
use serde_json::{Value, json};

use crate::policies::apply;
use crate::support::{Mesh, patience};

/// The name in the server's certificate.
const NAME: &str = "shop.example.com";

/// What the server answers.
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\nconnection: close\r\n\r\nshop";

/// A server outside the mesh that speaks TLS only; it ends with this process.
struct Shop {
    port: u16,
    /// Who signed its certificate, PEM.
    authority: String,
}

impl Shop {
    fn start() -> anyhow::Result<Self> {
        let mut of_authority = CertificateParams::new(Vec::new())?;
        // A server whose issuer has its own name is taken for one that signed itself.
        of_authority.distinguished_name.push(DnType::CommonName, "authority");
        of_authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(of_authority, KeyPair::generate()?)?;
        let key = KeyPair::generate()?;
        let certificate = CertificateParams::new(vec![NAME.to_owned()])?.signed_by(&key, &authority)?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let key = rustls::pki_types::PrivatePkcs8KeyDer::from(key.serialize_der());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key.into())?;
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let port = listener.local_addr()?.port();
        let config = Arc::new(config);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let config = Arc::clone(&config);
                // A client that does not like the certificate leaves; that is all there is to it.
                std::thread::spawn(move || answer(config, stream));
            }
        });
        Ok(Self { port, authority: authority.pem() })
    }

    /// The service as the mesh knows it, verified by an authority and a name.
    fn resource(&self, authority: &str, name: &str) -> Value {
        let ca = json!({"type": "InsecureInline", "insecureInline": {"value": authority}});
        let verification = json!({"mode": "Secured", "serverName": name, "caCert": ca});
        json!({"type": "MeshExternalService", "mesh": "default", "name": "shop", "spec": {
            "match": {"type": "HostnameGenerator", "port": 80, "protocol": "http"},
            "endpoints": [{"address": "127.0.0.1", "port": self.port}],
            "tls": {"enabled": true, "verification": verification}}})
    }
}

fn answer(config: Arc<ServerConfig>, stream: TcpStream) -> anyhow::Result<()> {
    let mut stream = StreamOwned::new(ServerConnection::new(config)?, stream);
    let mut request = Vec::new();
    let mut part = [0; 4096];
    while !request.windows(4).any(|window| window == b"\r\n\r\n") {
        let length = stream.read(&mut part)?;
        ensure!(length > 0, "the client left");
        request.extend_from_slice(part.get(..length).context("what was read")?);
    }
    stream.write_all(ANSWER)?;
    stream.conn.send_close_notify();
    stream.flush()?;
    Ok(())
}

/// Who may leave through the egress.
fn permission(verdict: &str) -> Value {
    let identity = "spiffe://default.east.mesh.local/workload/caller";
    json!({"type": "MeshTrafficPermission", "mesh": "default", "name": format!("egress-{verdict}"), "spec": {
        "targetRef": {"kind": "Dataplane", "labels": {"kuma.io/workload": "zone-egress"}},
        "rules": [{"default": {(verdict): [{"spiffeID": {"type": "Exact", "value": identity}}]}}]}})
}

#[test]
fn calls_leave_through_the_egress_if_the_other_side_is_who_it_should_be() {
    let mut mesh = Mesh::start();
    let shop = Shop::start().unwrap();
    let stranger = Shop::start().unwrap();
    let templates = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/multizone/dataplanes");
    let [egress, outbound] = ports::free().unwrap();
    apply(&mesh, &shop.resource(&shop.authority, NAME));
    apply(&mesh, &permission("allow"));
    let start = |mesh: &mut Mesh, name: &str, template: &str, vars: &[(&str, String)]| {
        mesh.topology.start_proxy_of("east", name, &templates.join(template), vars).unwrap();
    };
    start(&mut mesh, "zone-egress", "zone-egress.yaml", &[("port", egress.to_string())]);
    start(&mut mesh, "caller", "caller.yaml", &[("outbound", outbound.to_string())]);
    let status = || Ok(send(outbound, &Request::get("/"))?.status);
    let until = |wanted: u16| {
        let seen = patience().until(&format!("status {wanted}"), || {
            let seen: anyhow::Result<u16> = status();
            let seen = seen?;
            ensure!(seen == wanted, "{seen}");
            Ok(())
        });
        seen.unwrap_or_else(|error| panic!("{error:#}"));
    };
    until(200);
    assert_eq!(send(outbound, &Request::get("/")).unwrap().text(), "shop");

    // Signed by somebody else, and by the right one for another name.
    apply(&mesh, &shop.resource(&stranger.authority, NAME));
    until(503);
    apply(&mesh, &shop.resource(&shop.authority, NAME));
    until(200);
    apply(&mesh, &shop.resource(&shop.authority, "bank.example.com"));
    until(503);
    apply(&mesh, &shop.resource(&shop.authority, NAME));
    until(200);

    let denial = apply(&mesh, &permission("deny"));
    until(403);
    mesh.topology.global.api().delete(&denial).unwrap();
    until(200);
    // Without the egress there is no way out.
    mesh.topology.zone("east").unwrap().stop("zone-egress");
    until(503);
}
