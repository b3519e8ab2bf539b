//! Makes what rustls takes of a web-config file.
//!
//! Keys and certificates are read again each time: whoever renews them replaces
//! the files. The cryptography is graviola's, which is Rust with assembly in it and
//! needs no C compiler; it wants a CPU of the last ten years, and this is asked
//! before it is used.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context as _, Result, anyhow, bail};
use rustls::{
    NamedGroup, RootCertStore, ServerConfig, SupportedCipherSuite, SupportedProtocolVersion,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};
use serde_saphyr::Spanned;

use super::file::{TlsSection, at};

/// The largest file of certificates that is read.
const LARGEST: u64 = 1 << 20;

type Given = Option<Spanned<String>>;

impl TlsSection {
    /// The files that it names, relative to `folder`.
    pub fn files<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = PathBuf> + 'a {
        let named = [&self.cert_file, &self.key_file, &self.client_ca_file];
        named.into_iter().flatten().map(|path| folder.join(&path.value))
    }
}

/// Reads what the section names; paths are relative to `folder`.
///
/// # Errors
///
/// When a file cannot be read or holds something else, or a value is not known:
/// with the line of the key that says so.
pub fn server(section: &TlsSection, folder: &Path) -> Result<Arc<ServerConfig>> {
    check_cpu()?;
    let provider = Arc::new(provider(section)?);
    let clients = clients(section, folder, &provider)?;
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&versions(section)?)
        .context("`tls_server_config`: the ciphers and the versions do not go together")?;
    let builder = match clients {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let (cert, pem) = one_of(folder, ("cert_file", &section.cert_file), ("cert", &section.cert))?;
    let chain = certificates(&pem).map_err(|why| at(cert, &format!("certificate: {why}")))?;
    if let Some(path) = &section.key_file {
        check_mode(&folder.join(&path.value)).map_err(|why| at(path, &format!("{why:#}")))?;
    }
    let (key, pem) = one_of(folder, ("key_file", &section.key_file), ("key", &section.key))?;
    let private = PrivateKeyDer::from_pem_slice(pem.as_bytes())
        .map_err(|_| at(key, "there is no private key in PEM in it"))?;
    let config = builder
        .with_single_cert(chain, private)
        .map_err(|why| at(key, &format!("the key cannot be used with the certificate: {why}")))?;
    Ok(Arc::new(config))
}

/// The text of the one that is given: inline, or in a file.
fn one_of<'v>(
    folder: &Path,
    (file_name, file): (&str, &'v Given),
    (name, inline): (&str, &'v Given),
) -> Result<(&'v Spanned<String>, String)> {
    match (file, inline) {
        (Some(path), None) => {
            let text = read_bounded(&folder.join(&path.value)).map_err(|why| {
                at(path, &format!("`{file_name}`: failed to read `{}`: {why:#}", path.value))
            })?;
            Ok((path, text))
        }
        (None, Some(inline)) => Ok((inline, inline.value.clone())),
        (Some(_), Some(inline)) => {
            Err(at(inline, &format!("`{name}` stands beside `{file_name}`: one is enough")))
        }
        (None, None) => bail!("`tls_server_config` has no `{file_name}`"),
    }
}

fn read_bounded(path: &Path) -> Result<String> {
    let mut text = String::new();
    let size = File::open(path)?.take(LARGEST + 1).read_to_string(&mut text)?;
    if size as u64 > LARGEST {
        bail!("it is larger than {} KiB", LARGEST >> 10);
    }
    Ok(text)
}

/// Refuses a key that any process can read.
fn check_mode(path: &Path) -> Result<()> {
    // A file that cannot be looked at cannot be read either, which is said there.
    let Ok(file) = fs::metadata(path) else { return Ok(()) };
    let mode = file.permissions().mode() & 0o7777;
    if mode & 0o006 != 0 {
        bail!(
            "`key_file`: everybody can read `{}` (mode {mode:04o}): `chmod 0600`, or in a \
             Kubernetes secret `defaultMode: 0400`",
            path.display()
        );
    }
    Ok(())
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>> {
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem.as_bytes()).collect();
    let all = all.map_err(|_| anyhow!("this is no PEM"))?;
    if all.is_empty() {
        bail!("there is none in PEM in it");
    }
    Ok(all)
}

/// Whether each client must have a certificate, in a section that holds.
pub fn needs_certificate(section: &TlsSection) -> bool {
    let kind = section.client_auth_type.as_ref();
    kind.is_some_and(|kind| kind.value == "RequireAndVerifyClientCert")
}

/// Says who must show a certificate; nobody without one.
fn clients(
    section: &TlsSection,
    folder: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>> {
    let kind = section.client_auth_type.as_ref();
    let given = section.client_ca_file.as_ref().or(section.client_ca.as_ref());
    let must_show = match (kind, kind.map_or("", |kind| kind.value.as_str())) {
        (_, "" | "NoClientCert") => {
            // Such a file looks as if clients were checked, but they would not be.
            return match given {
                Some(ca) => Err(at(ca, "`client_ca_file` has no use without `client_auth_type`")),
                None => Ok(None),
            };
        }
        (_, "RequireAndVerifyClientCert") => true,
        (_, "VerifyClientCertIfGiven") => false,
        (Some(kind), "RequestClientCert" | "RequireAnyClientCert") => {
            return Err(at(
                kind,
                &format!(
                    "`client_auth_type`: {} lets in who made a certificate himself: say \
                     RequireAndVerifyClientCert",
                    kind.value
                ),
            ));
        }
        (kind, _) => {
            let why = "`client_auth_type` is NoClientCert, VerifyClientCertIfGiven or \
                       RequireAndVerifyClientCert";
            return Err(kind.map_or_else(|| anyhow!("{why}"), |kind| at(kind, why)));
        }
    };
    let Some(ca) = given else {
        return Err(kind.map_or_else(
            || anyhow!("there is no `client_ca_file`"),
            |kind| at(kind, "`client_auth_type` takes a `client_ca_file`"),
        ));
    };
    let file = ("client_ca_file", &section.client_ca_file);
    let (_, pem) = one_of(folder, file, ("client_ca", &section.client_ca))?;
    let mut roots = RootCertStore::empty();
    for root in certificates(&pem).map_err(|why| at(ca, &format!("`client_ca_file`: {why}")))? {
        roots.add(root).map_err(|why| at(ca, &format!("`client_ca_file`: {why}")))?;
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    let builder = if must_show { builder } else { builder.allow_unauthenticated() };
    Ok(Some(builder.build().map_err(|why| at(ca, &format!("`client_ca_file`: {why}")))?))
}

/// Older ones than TLS 1.2 may be allowed, and are not spoken.
fn versions(section: &TlsSection) -> Result<Vec<&'static SupportedProtocolVersion>> {
    const NAMES: [&str; 4] = ["TLS10", "TLS11", "TLS12", "TLS13"];
    let place = |given: &Given, name: &str| match given {
        None => Ok(None),
        Some(version) => match NAMES.iter().position(|name| *name == version.value) {
            Some(place) => Ok(Some(place)),
            None => Err(at(version, &format!("`{name}` is TLS12 or TLS13"))),
        },
    };
    let least = place(&section.min_version, "min_version")?.unwrap_or(2);
    let most = place(&section.max_version, "max_version")?.unwrap_or(3);
    let both = [(2, &TLS12), (3, &TLS13)];
    let spoken: Vec<_> = both
        .into_iter()
        .filter(|(place, _)| (least..=most).contains(place))
        .map(|(_, version)| version)
        .collect();
    match (&section.max_version, spoken.is_empty()) {
        (Some(most), true) => {
            Err(at(most, "`max_version`: no version is left, of TLS12 and TLS13"))
        }
        _ => Ok(spoken),
    }
}

/// The ciphers and curves that are named, of those that there are.
fn provider(section: &TlsSection) -> Result<CryptoProvider> {
    let mut provider = rustls_graviola::default_provider();
    let name = |suite: &SupportedCipherSuite| {
        let name = format!("{:?}", suite.suite());
        // Go and the RFC write those of TLS 1.3 without it.
        name.replace("TLS13_", "TLS_")
    };
    let names: Vec<_> = provider.cipher_suites.iter().map(name).collect();
    for wanted in &section.cipher_suites {
        if !names.contains(&long_name(&wanted.value)) {
            let why = format!("`cipher_suites`: not one of {}", names.join(", "));
            return Err(at(wanted, &why));
        }
    }
    if !section.cipher_suites.is_empty() {
        // As in Go, those of TLS 1.3 are not chosen.
        let wanted: Vec<_> = section.cipher_suites.iter().map(|w| long_name(&w.value)).collect();
        provider
            .cipher_suites
            .retain(|suite| suite.tls13().is_some() || wanted.contains(&name(suite)));
    }
    const CURVES: [(&str, NamedGroup); 4] = [
        ("X25519MLKEM768", NamedGroup::X25519MLKEM768),
        ("X25519", NamedGroup::X25519),
        ("CurveP256", NamedGroup::secp256r1),
        ("CurveP384", NamedGroup::secp384r1),
    ];
    let mut groups = Vec::new();
    for wanted in &section.curve_preferences {
        let named = CURVES.iter().find(|(name, _)| *name == wanted.value);
        let group = named
            .and_then(|(_, named)| provider.kx_groups.iter().find(|g| g.name() == *named))
            .ok_or_else(|| {
                let names = CURVES.map(|(name, _)| name).join(", ");
                at(wanted, &format!("`curve_preferences`: not one of {names}"))
            })?;
        groups.push(*group);
    }
    if !groups.is_empty() {
        provider.kx_groups = groups;
    }
    Ok(provider)
}

/// Go has short names for two suites.
fn long_name(name: &str) -> String {
    if name.ends_with("_CHACHA20_POLY1305") { format!("{name}_SHA256") } else { name.to_owned() }
}

/// Graviola takes these for granted.
fn check_cpu() -> Result<()> {
    let lacking = lacking();
    if lacking.is_empty() {
        return Ok(());
    }
    bail!(
        "`tls_server_config`: this CPU has no {}, which the cryptography takes: serve the address \
         to a proxy with TLS on this node, or give a virtual machine its host's CPU model",
        lacking.join(", ")
    )
}

fn lacking() -> Vec<&'static str> {
    #[cfg(target_arch = "x86_64")]
    let features = [
        ("aes", is_x86_feature_detected!("aes")),
        ("pclmulqdq", is_x86_feature_detected!("pclmulqdq")),
        ("ssse3", is_x86_feature_detected!("ssse3")),
        ("bmi1", is_x86_feature_detected!("bmi1")),
        ("bmi2", is_x86_feature_detected!("bmi2")),
        ("adx", is_x86_feature_detected!("adx")),
        ("avx", is_x86_feature_detected!("avx")),
        ("avx2", is_x86_feature_detected!("avx2")),
    ];
    #[cfg(target_arch = "aarch64")]
    let features = [
        ("neon", std::arch::is_aarch64_feature_detected!("neon")),
        ("aes", std::arch::is_aarch64_feature_detected!("aes")),
        ("pmull", std::arch::is_aarch64_feature_detected!("pmull")),
        ("sha2", std::arch::is_aarch64_feature_detected!("sha2")),
    ];
    features.into_iter().filter(|(_, has)| !has).map(|(name, _)| name).collect()
}
