//! A web-config file, as Prometheus' exporter-toolkit has it.
//!
//! Text goes in and a [`WebFile`] comes out, with the line of each value, so that an error
//! names the line of the wrong one. A setting that the format has and the agent does not
//! support is refused and not ignored: it may be the one that keeps strangers out.

use std::{collections::BTreeMap, str::FromStr};

use anyhow::{Result, anyhow, bail};
use bcrypt::HashParts;
use hyper::header::{HeaderName, HeaderValue};
use serde::{Deserialize, de::IgnoredAny};
use serde_saphyr::Spanned;

use crate::output::escape::bounded;

/// One check of a dearer password would take a CPU for seconds.
pub const DEAREST: u32 = 14;

/// Users at most: their passwords are checked one by one.
const USERS: usize = 100;

/// A file says this.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebFile {
    #[serde(default)]
    pub tls_server_config: Option<TlsSection>,
    #[serde(default)]
    http_server_config: Option<HttpSection>,
    /// Hashes of bcrypt by user.
    #[serde(default)]
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    #[serde(default)]
    rate_limit: Option<Spanned<IgnoredAny>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsSection {
    #[serde(default)]
    pub cert_file: Option<Spanned<String>>,
    #[serde(default)]
    pub key_file: Option<Spanned<String>>,
    /// The certificate itself.
    #[serde(default)]
    pub cert: Option<Spanned<String>>,
    #[serde(default)]
    pub key: Option<Spanned<String>>,
    #[serde(default)]
    pub client_auth_type: Option<Spanned<String>>,
    #[serde(default)]
    pub client_ca_file: Option<Spanned<String>>,
    #[serde(default)]
    pub client_ca: Option<Spanned<String>>,
    #[serde(default)]
    client_allowed_sans: Option<Spanned<IgnoredAny>>,
    #[serde(default)]
    pub min_version: Option<Spanned<String>>,
    #[serde(default)]
    pub max_version: Option<Spanned<String>>,
    #[serde(default)]
    pub cipher_suites: Vec<Spanned<String>>,
    #[serde(default)]
    pub curve_preferences: Vec<Spanned<String>>,
    /// The server's order holds in any case, as it does in today's toolkit.
    #[serde(default, rename = "prefer_server_cipher_suites")]
    _prefer: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct HttpSection {
    /// Whether HTTP/2 may be spoken; the agent speaks HTTP/1.1 alone.
    #[serde(default, rename = "http2")]
    _http2: Option<bool>,
    #[serde(default)]
    headers: BTreeMap<String, Spanned<String>>,
}

/// Headers that may be given, and the only values that some of them have.
const HEADERS: [(&str, &[&str]); 5] = [
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
    ("Content-Security-Policy", &[]),
];

impl WebFile {
    /// # Errors
    ///
    /// When it is no YAML, or a key or a value is not known: with the line.
    pub fn parse(text: &str) -> Result<Self> {
        if text.lines().all(|line| matches!(line.trim().as_bytes(), [] | [b'#', ..] | b"---")) {
            return Ok(Self::default());
        }
        let file: Self = serde_saphyr::from_str(text).map_err(|error| {
            let line = error.location().map_or(0, |location| location.line());
            let why = error.without_snippet().to_string();
            anyhow!("line {line}: {}", bounded(&why.replace('\n', " "), 200))
        })?;
        file.refuse_what_is_not_done()?;
        Ok(file)
    }

    /// Refuses what exporters do and the agent does not, with what to do instead.
    fn refuse_what_is_not_done(&self) -> Result<()> {
        if let Some(limit) = &self.rate_limit {
            let why = "`rate_limit`: the agent has none; it answers 32 connections at a time";
            return Err(at(limit, why));
        }
        let tls = self.tls_server_config.as_ref();
        if let Some(names) = tls.and_then(|section| section.client_allowed_sans.as_ref()) {
            let why = "`client_allowed_sans`: the agent does not compare names in certificates: \
                       give scrapers certificates of an authority that signs for nobody else";
            return Err(at(names, why));
        }
        Ok(())
    }

    /// The hash of each user's password.
    ///
    /// # Errors
    ///
    /// When one is no hash of bcrypt, or dearer than the node can afford.
    pub fn users(&self) -> Result<BTreeMap<String, String>> {
        let given = self.basic_auth_users.iter().flatten();
        if given.clone().count() > USERS {
            bail!("`basic_auth_users`: there are more than {USERS}");
        }
        given
            .map(|(user, hash)| {
                let wrong = |why: &str| at(hash, &format!("user `{}`: {why}", bounded(user, 40)));
                if user.contains(':') {
                    return Err(wrong("a name with a colon cannot be sent"));
                }
                let is_known = ["$2a$", "$2b$", "$2x$", "$2y$"];
                if !is_known.iter().any(|begin| hash.value.starts_with(begin)) {
                    return Err(wrong("not a hash of bcrypt, such as `htpasswd -nB USER` prints"));
                }
                let parts = HashParts::from_str(&hash.value)
                    .map_err(|_| wrong("not a whole hash of bcrypt"))?;
                if parts.get_cost() > DEAREST {
                    let cost = parts.get_cost();
                    return Err(wrong(&format!(
                        "its cost is {cost}, and one check would take a CPU for too long: \
                         {DEAREST} at most (`htpasswd -C`)"
                    )));
                }
                Ok((user.clone(), hash.value.clone()))
            })
            .collect()
    }

    /// Headers that go with each answer.
    ///
    /// # Errors
    ///
    /// When a header is not known, or its value is none.
    pub fn headers(&self) -> Result<Vec<(HeaderName, HeaderValue)>> {
        let given = self.http_server_config.iter().flat_map(|section| &section.headers);
        let known = |name: &str| HEADERS.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
        given
            .map(|(name, value)| {
                let wrong = |why: &str| at(value, &format!("`{}`: {why}", bounded(name, 40)));
                let Some((_, values)) = known(name) else {
                    let names = HEADERS.map(|(name, _)| name).join(", ");
                    return Err(wrong(&format!("not a header that can be set: {names}")));
                };
                let is_given = |one: &&str| one.eq_ignore_ascii_case(&value.value);
                if !values.is_empty() && !values.iter().any(is_given) {
                    return Err(wrong(&format!("must be {}", values.join(" or "))));
                }
                let name = HeaderName::from_bytes(name.as_bytes());
                let header = HeaderValue::from_str(&value.value);
                name.ok().zip(header.ok()).ok_or_else(|| wrong("cannot be sent"))
            })
            .collect()
    }
}

/// Says what is wrong, with its line.
pub fn at<T>(value: &Spanned<T>, why: &str) -> anyhow::Error {
    anyhow!("line {}: {why}", value.defined.line())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// "secret", as crypt(3) has it.
    const HASH: &str = "$2y$04$SFJwR7jrVl8QhpOZ5Gh3MeUEl5aFL7s2.EoNWp5Jmk72hhmxZjkQm";

    #[track_caller]
    fn refused(text: &str, says: &[&str]) {
        let all = |file: WebFile| file.users().and(file.headers().map(drop));
        let error = WebFile::parse(text).and_then(all).unwrap_err();
        let error = format!("{error:#}");
        assert!(says.iter().all(|says| error.contains(says)), "{error}");
        assert!(!error.contains('\n'), "{error:?}");
    }

    #[test]
    fn a_file_that_says_nothing_asks_for_nothing() {
        for text in ["", "---\n", "# nothing yet\n", "basic_auth_users:\n"] {
            let file = WebFile::parse(text).unwrap();
            assert!(file.tls_server_config.is_none(), "{text}");
            assert!(file.users().unwrap().is_empty() && file.headers().unwrap().is_empty());
        }
    }

    #[test]
    fn an_unknown_key_is_refused_with_its_line() {
        refused("tls_config:\n  cert_file: a\n", &["line 1", "tls_config"]);
        refused("tls_server_config:\n  cert_file: a\n  keyfile: b\n", &["line 3", "keyfile"]);
        let sans = "tls_server_config:\n  cert_file: a\n  client_allowed_sans: [a]\n";
        refused(sans, &["line 3", "client_allowed_sans", "authority"]);
        refused("rate_limit:\n  burst: 1\n", &["line ", "rate_limit", "32 connections"]);
        refused("http_server_config:\n  http3: true\n", &["line 2", "http3"]);
        refused("basic_auth_users:\n  a: x\n  a: y\n", &["line 3"]);
    }

    #[test]
    fn a_value_that_is_none_is_refused_with_its_line() {
        refused("\nbasic_auth_users:\n  a: secret\n", &["line 3", "user `a`", "htpasswd"]);
        refused("basic_auth_users:\n  a: $2y$10$short\n", &["line 2", "not a whole hash"]);
        let dear = HASH.replace("$04$", "$17$");
        refused(&format!("basic_auth_users:\n  a: {dear}\n"), &["line 2", "cost is 17", "14"]);
        refused("basic_auth_users: [a]\n", &["line 1"]);
        refused(&format!("basic_auth_users:\n  \"a:b\": {HASH}\n"), &["line 2", "colon"]);
        let headers = "http_server_config:\n  headers:\n    ";
        refused(&format!("{headers}Server: a\n"), &["line 3", "`Server`"]);
        refused(&format!("{headers}X-Frame-Options: maybe\n"), &["line 3", "deny or sameorigin"]);
        refused("tls_server_config: {\n", &["line "]);
        refused("\ttls\n", &["line "]);
    }

    #[test]
    fn what_the_format_knows_is_read() {
        let text = format!(
            "basic_auth_users:\n  a: {HASH}\n  b: &b {HASH}\n  c: *b\nhttp_server_config:\n  \
             http2: true\n  headers:\n    x-frame-options: DENY\n    \
             Strict-Transport-Security: max-age=31536000\n"
        );
        let file = WebFile::parse(&text).unwrap();
        assert_eq!(file.users().unwrap().into_keys().collect::<Vec<_>>(), ["a", "b", "c"]);
        assert_eq!(file.headers().unwrap().len(), 2);
    }

    #[test]
    fn no_bytes_make_it_panic() {
        for text in ["\0", "a: [[[[", "? ", "&a [*a]", "%YAML 9", "!!x y", "\u{feff}a: b", "- - -"]
        {
            let _ = WebFile::parse(text);
        }
        let bomb = (0..30).fold("a0: &a0 [x]\n".to_owned(), |text, n| {
            text + &format!("a{}: &a{} [*a{n}, *a{n}]\n", n + 1, n + 1)
        });
        assert!(WebFile::parse(&bomb).is_err());
    }
}
