//! Doors with TLS and passwords, asked by rustls' client and by curl.

use std::{
    fs::{self, Permissions},
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::Command,
    time::Instant,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned, SupportedProtocolVersion,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    version::{TLS12, TLS13},
};

use super::{
    tests::{check, door, get, nobody},
    *,
};

const TLS: &str = "tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n";

/// "secret", as crypt(3) has it.
const USERS: &str = "basic_auth_users:\n  scraper: \
                     $2y$04$SFJwR7jrVl8QhpOZ5Gh3MeUEl5aFL7s2.EoNWp5Jmk72hhmxZjkQm\n";
const SECRET: &str = "Authorization: Basic c2NyYXBlcjpzZWNyZXQ=\r\n";

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// A folder with certificates, and a web-config file in it.
struct Lab {
    folder: tempfile::TempDir,
    authority: Issuer,
}

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key of somebody, in PEM.
fn issue(authority: &Issuer) -> [String; 2] {
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    [params.signed_by(&key, authority).unwrap().pem(), key.serialize_pem()]
}

impl Lab {
    fn new() -> Self {
        let lab = Self { folder: tempfile::tempdir().unwrap(), authority: authority("a test") };
        lab.write("ca.crt", &lab.authority.pem());
        lab.renew();
        lab
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        // As those do it who renew certificates: another file under the same name.
        let new = self.folder.path().join("new");
        fs::write(&new, text).unwrap();
        fs::set_permissions(&new, Permissions::from_mode(0o600)).unwrap();
        fs::rename(&new, &path).unwrap();
        path
    }

    fn renew(&self) {
        let [cert, key] = issue(&self.authority);
        self.write("server.crt", &cert);
        self.write("server.key", &key);
    }

    fn gate(&self, text: &str) -> Arc<Gate> {
        Arc::new(Gate::new(Some(&self.write("web.yml", text))).unwrap())
    }

    fn server(&self, text: &str) -> (SocketAddr, Arc<Shared>) {
        let (address, door) = door(Serves::Everything, self.gate(text), &[]);
        let shared = Arc::new(Shared::new(4));
        serve(vec![door], Arc::clone(&shared), nobody(), Privileges::Keep).unwrap();
        (address, shared)
    }

    fn client(&self) -> Client {
        Client { root: self.authority.der().clone(), with: None, speaks: vec![&TLS13, &TLS12] }
    }
}

struct Client {
    root: CertificateDer<'static>,
    with: Option<[String; 2]>,
    speaks: Vec<&'static SupportedProtocolVersion>,
}

impl Client {
    /// The answer; nothing where TLS was not agreed upon.
    fn ask(&self, address: SocketAddr, head: &str) -> String {
        let mut stream = self.connect(address);
        let _ = stream.write_all(head.as_bytes());
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn get(&self, address: SocketAddr, more: &str) -> String {
        self.ask(address, &format!("GET /healthz HTTP/1.1\r\nHost: localhost\r\n{more}\r\n"))
    }

    fn connect(&self, address: SocketAddr) -> StreamOwned<ClientConnection, TcpStream> {
        let provider = Arc::new(rustls_graviola::default_provider());
        let mut roots = RootCertStore::empty();
        roots.add(self.root.clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&self.speaks)
            .unwrap()
            .with_root_certificates(roots);
        let config = match &self.with {
            None => builder.with_no_client_auth(),
            Some([cert, key]) => {
                let cert = CertificateDer::from_pem_slice(cert.as_bytes()).unwrap();
                let key = PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap();
                builder.with_client_auth_cert(vec![cert], key).unwrap()
            }
        };
        let name = "localhost".try_into().unwrap();
        let client = ClientConnection::new(Arc::new(config), name).unwrap();
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        StreamOwned::new(client, stream)
    }
}

/// A client may know that it was refused before the agent has counted it.
#[track_caller]
fn refused(shared: &Shared, expected: [u64; 3]) {
    let counts = || shared.refused().map(|(_, count)| count);
    let until = Instant::now() + Duration::from_secs(10);
    while counts() != expected && Instant::now() < until {
        thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(counts(), expected, "host, password, handshake");
}

#[test]
fn over_tls_a_password_lets_in_and_nothing_else_does() {
    let lab = Lab::new();
    let (address, shared) = lab.server(&format!("{TLS}{USERS}"));
    let client = lab.client();
    check(&client.get(address, SECRET), 200);
    for wrong in ["", "Authorization: Basic c2NyYXBlcjp3cm9uZw==\r\n", "Authorization: x\r\n"] {
        let answer = client.get(address, wrong);
        check(&answer, 401);
        assert!(answer.contains("www-authenticate: Basic realm=\"tracer\""), "{answer}");
    }
    // Not even whether there is such a path is said.
    check(&client.ask(address, "GET /nonsense HTTP/1.1\r\nHost: localhost\r\n\r\n"), 401);
    refused(&shared, [0, 4, 0]);
    // Without TLS, and with TLS of somebody else's.
    assert!(!get(address, "/healthz").contains("HTTP/1.1 200"));
    let stranger = Client { root: authority("another").der().clone(), ..lab.client() };
    assert_eq!(stranger.get(address, SECRET), "");
    refused(&shared, [0, 4, 2]);
}

#[test]
fn only_a_client_with_a_certificate_of_that_authority_is_let_in() {
    let lab = Lab::new();
    let asks = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let (address, shared) = lab.server(&format!("{TLS}{asks}"));
    let with = |with| Client { with, ..lab.client() };
    check(&with(Some(issue(&lab.authority))).get(address, ""), 200);
    assert_eq!(with(None).get(address, ""), "");
    // This one has the same name, and another key.
    assert_eq!(with(Some(issue(&authority("a test")))).get(address, ""), "");
    refused(&shared, [0, 0, 2]);
    let if_given = asks.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven");
    let (address, _shared) = lab.server(&format!("{TLS}{if_given}"));
    check(&with(None).get(address, ""), 200);
    assert_eq!(with(Some(issue(&authority("a test")))).get(address, ""), "");
}

#[test]
fn versions_and_ciphers_are_those_that_are_named() {
    let lab = Lab::new();
    let speaks = |version| Client { speaks: vec![version], ..lab.client() };
    let (address, _shared) = lab.server(&format!("{TLS}  min_version: TLS13\n"));
    check(&speaks(&TLS13).get(address, ""), 200);
    assert_eq!(speaks(&TLS12).get(address, ""), "");
    let cipher = "  max_version: TLS12\n  min_version: TLS10\n  curve_preferences: [CurveP256]\n  \
                  cipher_suites: [TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384]\n";
    let (address, _shared) = lab.server(&format!("{TLS}{cipher}"));
    assert_eq!(speaks(&TLS13).get(address, ""), "");
    let mut stream = speaks(&TLS12).connect(address);
    stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    let suite = stream.conn.negotiated_cipher_suite().unwrap().suite();
    assert_eq!(suite, rustls::CipherSuite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384);
}

#[test]
fn a_renewed_certificate_is_served_and_a_wrong_one_changes_nothing() {
    let lab = Lab::new();
    let gate = lab.gate(TLS);
    let (address, door) = door(Serves::Everything, Arc::clone(&gate), &[]);
    serve(vec![door], Arc::new(Shared::new(4)), nobody(), Privileges::Keep).unwrap();
    let served = || {
        let mut stream = lab.client().connect(address);
        let _ = stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n");
        stream.conn.peer_certificates().unwrap()[0].clone().into_owned()
    };
    let first = served();
    assert!(!gate.follow().unwrap(), "nothing has changed");
    lab.renew();
    assert!(gate.follow().unwrap());
    let second = served();
    assert_ne!(first, second);
    // A key that belongs to another certificate.
    lab.write("server.key", &issue(&lab.authority)[1]);
    let why = format!("{:#}", gate.follow().unwrap_err());
    assert!(why.contains("line 3: the key cannot be used with the certificate"), "{why}");
    assert_eq!(served(), second);
    lab.renew();
    lab.write("web.yml", &format!("{TLS}{USERS}"));
    assert!(gate.follow().unwrap());
    check(&lab.client().get(address, ""), 401);
}

#[test]
fn probes_have_a_door_of_their_own_that_leads_nowhere_else() {
    let lab = Lab::new();
    let (_, main) = door(Serves::Everything, lab.gate(&format!("{TLS}{USERS}")), &[]);
    let (address, probes) = door(Serves::Probes, Arc::default(), &[]);
    let shared = Arc::new(Shared::new(4));
    serve(vec![main, probes], Arc::clone(&shared), nobody(), Privileges::Keep).unwrap();
    check(&get(address, "/healthz"), 200);
    check(&get(address, "/readyz"), 503);
    shared.set_ready();
    check(&get(address, "/readyz"), 200);
    for path in
        ["/", "/metrics", "/api/v1/verdicts", "/api/v1/syncs", "/api/v1/why", "/favicon.ico"]
    {
        check(&get(address, path), 404);
    }
}

#[test]
fn who_never_ends_a_handshake_is_cut_off_and_holds_nobody_up() {
    let lab = Lab::new();
    let (address, shared) = lab.server(TLS);
    let began = Instant::now();
    let mut silent: Vec<_> =
        (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
    // The begin of a handshake.
    silent[0].write_all(&[0x16, 0x03, 0x01]).unwrap();
    check(&lab.client().get(address, ""), 200);
    let waited = began.elapsed();
    assert!(waited < HEAD_TIME + Duration::from_secs(4), "{waited:?}");
    for mut stream in silent {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        assert_eq!(stream.read_to_end(&mut Vec::new()).unwrap_or(0), 0);
    }
    refused(&shared, [0, 0, CONNECTIONS as u64]);
}

#[test]
fn headers_that_the_file_names_go_with_each_answer() {
    let lab = Lab::new();
    let (address, _shared) = lab.server(
        "http_server_config:\n  headers:\n    X-Frame-Options: deny\n    \
         Content-Security-Policy: default-src 'self'\n",
    );
    for path in ["/", "/healthz", "/nonsense"] {
        let answer = get(address, path);
        assert!(answer.contains("x-frame-options: deny\r\n"), "{answer}");
        assert_eq!(answer.matches("content-security-policy: ").count(), 1, "{answer}");
    }
    assert!(get(address, "/").contains("content-security-policy: default-src 'none'"));
}

#[test]
fn wrong_files_are_refused_with_the_line() {
    let lab = Lab::new();
    fs::write(lab.folder.path().join("open.key"), &issue(&lab.authority)[1]).unwrap();
    let open = Permissions::from_mode(0o644);
    fs::set_permissions(lab.folder.path().join("open.key"), open).unwrap();
    lab.write("empty", "");
    for (text, says) in [
        ("tls_server_config:\n  key_file: server.key\n".into(), ["cert_file", "has no"]),
        ("tls_server_config:\n  cert_file: server.crt\n".into(), ["key_file", "has no"]),
        (TLS.replace("server.crt", "gone"), ["line 2", "`gone`"]),
        (TLS.replace("server.crt", "server.key"), ["line 2", "none in PEM"]),
        (TLS.replace("server.crt", "empty"), ["line 2", "none in PEM"]),
        (TLS.replace("server.key", "server.crt"), ["line 3", "private key"]),
        (TLS.replace("server.key", "open.key"), ["line 3", "mode 0644"]),
        (TLS.replace("server.crt", "."), ["line 2", "failed to read `.`"]),
        (format!("{TLS}  key: x\n"), ["line 4", "stands beside"]),
        (format!("{TLS}  min_version: TLS14\n"), ["line 4", "TLS12 or TLS13"]),
        (format!("{TLS}  max_version: TLS11\n"), ["line 4", "no version is left"]),
        (format!("{TLS}  cipher_suites: [TLS_NULL]\n"), ["line 4", "not one of"]),
        (format!("{TLS}  curve_preferences:\n  - CurveP521\n"), ["line 5", "X25519"]),
        (format!("{TLS}  client_auth_type: Maybe\n"), ["line 4", "NoClientCert"]),
        (format!("{TLS}  client_ca_file: ca.crt\n"), ["line 4", "client_auth_type"]),
        (format!("{TLS}  client_auth_type: RequireAnyClientCert\n"), ["line 4", "himself"]),
        (
            format!("{TLS}  client_auth_type: RequireAndVerifyClientCert\n"),
            ["line 4", "client_ca_file"],
        ),
        (
            format!("{TLS}  client_auth_type: VerifyClientCertIfGiven\n  client_ca_file: empty\n"),
            ["line 5", "client_ca_file"],
        ),
    ] {
        let path = lab.write("web.yml", &text);
        let Err(error) = Gate::new(Some(&path)) else { panic!("taken: {text}") };
        let error = format!("{error:#}");
        assert!(says.iter().all(|says| error.contains(says)), "{text}{error}");
        assert!(error.contains("web.yml") && !error.contains('\n'), "{error}");
    }
}

#[test]
fn curl_is_served_over_tls_with_a_password_and_a_certificate() {
    if Command::new("curl").arg("--version").output().is_err() {
        eprintln!("skipped: there is no curl");
        return;
    }
    let lab = Lab::new();
    let asks = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ca.crt\n";
    let (address, _shared) = lab.server(&format!("{TLS}{asks}{USERS}"));
    let [cert, key] = issue(&lab.authority);
    lab.write("client.crt", &cert);
    lab.write("client.key", &key);
    let curl = |more: &[&str]| {
        let mut curl = Command::new("curl");
        curl.current_dir(lab.folder.path()).args(["--silent", "--max-time", "10"]);
        curl.args(["--noproxy", "*", "--write-out", "%{http_code}", "--cacert", "ca.crt"]);
        let url = format!("https://localhost:{}/healthz", address.port());
        String::from_utf8(curl.args(more).arg(url).output().unwrap().stdout).unwrap()
    };
    let cert = ["--cert", "client.crt", "--key", "client.key"];
    assert_eq!(curl(&[&cert[..], &["--user", "scraper:secret"]].concat()), "alive\n200");
    assert!(curl(&[&cert[..], &["--user", "scraper:wrong"]].concat()).ends_with("401"));
    assert_eq!(curl(&["--user", "scraper:secret"]), "000");
}
