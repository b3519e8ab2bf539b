//! curl connects to a running agent with a web-config file: TLS, client certificates and
//! passwords over real sockets.
//!
//! The agent is given a node without disks, so it traces nothing and needs no rights. It still
//! serves, which is what is tested.

use std::{
    fs::{self, Permissions},
    net::{SocketAddr, TcpListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::Command,
    thread::sleep,
    time::{Duration, Instant},
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use crate::{skip::skip, subject::Tracer};

/// The hash of "secret", in the format of crypt(3).
const WEB_CONFIG: &str = "\
tls_server_config:
  cert_file: server.crt
  key_file: server.key
  client_auth_type: RequireAndVerifyClientCert
  client_ca_file: ca.crt
basic_auth_users:
  scraper: $2y$04$SFJwR7jrVl8QhpOZ5Gh3MeUEl5aFL7s2.EoNWp5Jmk72hhmxZjkQm
";

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    fs::write(&path, text).unwrap();
    fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
    path
}

/// Writes `NAME.crt` and `NAME.key`.
fn issue(folder: &Path, name: &str, by: &Issuer) {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    write(folder, &format!("{name}.crt"), &params.signed_by(&key, by).unwrap().pem());
    write(folder, &format!("{name}.key"), &key.serialize_pem());
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// The status of an answer (0 if there was none), and its body.
fn curl(folder: &Path, args: &[&str], url: &str) -> (u16, String) {
    let mut command = Command::new("curl");
    command.current_dir(folder).args(["--silent", "--max-time", "20", "--noproxy", "*"]);
    let output = command.args(["--write-out", "\n%{http_code}"]).args(args).arg(url).output();
    let text = String::from_utf8(output.unwrap().stdout).unwrap();
    let (body, status) = text.rsplit_once('\n').unwrap();
    (status.parse().unwrap(), body.to_owned())
}

#[test]
fn an_agent_asks_for_a_certificate_and_a_password_on_a_real_socket() {
    if Command::new("curl").arg("--version").output().is_err() {
        skip!("`curl` is not installed");
    }
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let (ours, strangers) = (authority("ours"), authority("a stranger's"));
    write(folder, "ca.crt", &ours.pem());
    for (name, by) in [("server", &ours), ("scraper", &ours), ("stranger", &strangers)] {
        issue(folder, name, by);
    }
    let config = write(folder, "web.yml", WEB_CONFIG);
    let node = folder.join("node");
    fs::create_dir(&node).unwrap();
    let (address, probes) = (free_address(), free_address());
    let _agent = Tracer::start(&[
        "agent",
        &format!("--listen={address}"),
        &format!("--probe-listen={probes}"),
        &format!("--web-config={}", config.display()),
        &format!("--host-root={}", node.display()),
    ]);

    // The kubelet has no certificate: the probes' port serves its two paths, and nothing else.
    let plain = |path: &str| curl(folder, &[], &format!("http://{probes}{path}"));
    let end = Instant::now() + Duration::from_secs(60);
    while plain("/healthz").0 != 200 {
        assert!(Instant::now() < end, "nothing is served at {probes}");
        sleep(Duration::from_millis(100));
    }
    for path in ["/metrics", "/api/v1/verdicts", "/"] {
        let (status, body) = plain(path);
        assert_eq!(status, 404, "{path}: {body}");
    }

    let port = address.port();
    let metrics = format!("https://localhost:{port}/metrics");
    let trust = ["--cacert", "ca.crt"];
    let shown = ["--cacert", "ca.crt", "--cert", "scraper.crt", "--key", "scraper.key"];
    let foreign = ["--cacert", "ca.crt", "--cert", "stranger.crt", "--key", "stranger.key"];
    let password = ["--user", "scraper:secret"];

    // The answer is 503 while the agent examines the node.
    let known = [&shown[..], &password].concat();
    let mut answer = curl(folder, &known, &metrics);
    while answer.0 == 503 && Instant::now() < end {
        sleep(Duration::from_millis(100));
        answer = curl(folder, &known, &metrics);
    }
    let (status, body) = answer;
    assert_eq!(status, 200, "{body}");
    assert!(body.contains("\ntracer_build_info{"), "{body}");
    // Without a certificate or a password there is no answer, or one without content.
    for (args, expected) in [
        (shown.to_vec(), 401),
        ([&shown[..], &["--user", "scraper:wrong"]].concat(), 401),
        ([&trust[..], &password].concat(), 0),
        ([&foreign[..], &password].concat(), 0),
    ] {
        let (status, body) = curl(folder, &args, &metrics);
        assert_eq!(status, expected, "{args:?}");
        assert!(!body.contains("tracer_"), "{args:?}: {body}");
    }
    // There is none without TLS either, or for a name that is not the agent's.
    let (status, body) = curl(folder, &password, &format!("http://localhost:{port}/metrics"));
    assert!(status != 200 && !body.contains("tracer_"), "{status} {body}");
    let elsewhere = [&shown[..], &password, &["--header", "Host: tracer.evil"]].concat();
    assert_eq!(curl(folder, &elsewhere, &metrics).0, 421);
}
