//! Writes a container image for several architectures, as one file that engines load.
//!
//! The file is a tar with an image layout: `oci-layout`, `index.json` with the image's name,
//! and blobs named by their digests, one of which is the index of the manifests.
//! <https://github.com/opencontainers/image-spec/blob/v1.1.0/image-layout.md>

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use crate::{
    Machine, NAME, Release,
    archive::{File, gzip, tar},
    sums::sha256,
};

const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
const INDEX: &str = "application/vnd.oci.image.index.v1+json";
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// `tracer-0.1.0-image.tar`
pub fn file_name(release: &Release) -> String {
    format!("{NAME}-{}-image.tar", release.version)
}

/// `tracer:0.1.0`, as the manifests of Kubernetes ask for it.
pub fn name(release: &Release) -> String {
    format!("{NAME}:{}", release.version)
}

/// An image as a file, and the digest that a registry will have for it.
pub struct Image {
    pub archive: Vec<u8>,
    /// `sha256:…` of the index.
    pub digest: String,
}

/// Content by its digest.
#[derive(Default)]
struct Blobs(BTreeMap<String, Vec<u8>>);

impl Blobs {
    /// Adds a blob, and returns a descriptor that refers to it.
    fn put(&mut self, media_type: &str, content: Vec<u8>) -> Value {
        let digest = sha256(&content);
        let size = content.len();
        let descriptor =
            json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": size});
        self.0.insert(digest, content);
        descriptor
    }
}

/// Writes the image with the files of each architecture.
///
/// # Errors
///
/// One of the paths cannot be packed.
pub fn write(release: &Release, machines: &[(Machine, Vec<File>)]) -> Result<Image> {
    let mut machines: Vec<_> = machines.iter().collect();
    machines.sort_by_key(|(machine, _)| *machine);
    let mut blobs = Blobs::default();
    let mut manifests = Vec::new();
    for (machine, files) in machines {
        let layer = tar(files, release.epoch)?;
        let config = config(release, *machine, &sha256(&layer));
        let layer = blobs.put(LAYER, gzip(&layer)?);
        let config = blobs.put(CONFIG, config.to_string().into_bytes());
        let manifest = json!({
            "schemaVersion": 2, "mediaType": MANIFEST, "config": config, "layers": [layer],
        });
        let mut manifest = blobs.put(MANIFEST, manifest.to_string().into_bytes());
        manifest["platform"] = json!({"os": "linux", "architecture": machine.debian()});
        manifests.push(manifest);
    }
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": manifests});
    let mut index = blobs.put(INDEX, index.to_string().into_bytes());
    let digest = index["digest"].as_str().unwrap_or_default().to_owned();
    index["annotations"] = json!({
        // containerd and Podman name the image by the first, other tools by the second.
        "io.containerd.image.name": format!("docker.io/library/{}", name(release)),
        "org.opencontainers.image.ref.name": release.version,
    });
    let index = json!({"schemaVersion": 2, "mediaType": INDEX, "manifests": [index]});
    let mut files = vec![
        File::plain("oci-layout", json!({"imageLayoutVersion": "1.0.0"}).to_string()),
        File::plain("index.json", index.to_string()),
    ];
    let blobs = blobs.0.into_iter();
    files.extend(
        blobs.map(|(digest, content)| File::plain(format!("blobs/sha256/{digest}"), content)),
    );
    Ok(Image { archive: tar(&files, release.epoch)?, digest })
}

/// How a container of it is started: what `deploy/Containerfile` says.
fn config(release: &Release, machine: Machine, layer: &str) -> Value {
    let created = created(release);
    json!({
        "architecture": machine.debian(),
        "os": "linux",
        "created": created,
        "config": {
            // In a container, only user 0 gets the capabilities.
            "User": "0:0",
            "ExposedPorts": {"9464/tcp": {}},
            "Entrypoint": ["/tracer"],
            "Cmd": ["agent"],
            "WorkingDir": "/",
            "Labels": {
                "org.opencontainers.image.title": NAME,
                "org.opencontainers.image.description": release.summary,
                "org.opencontainers.image.licenses": release.licence,
                "org.opencontainers.image.version": release.version,
            },
        },
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{layer}")]},
        "history": [{"created": created, "created_by": "cargo xtask dist"}],
    })
}

/// The time of the release, such as `2026-01-01T00:00:00Z`.
pub(crate) fn created(release: &Release) -> String {
    let since = std::time::Duration::from_secs(release.epoch.into());
    humantime::format_rfc3339_seconds(std::time::UNIX_EPOCH + since).to_string()
}

#[cfg(test)]
mod tests {
    use std::io::Read as _;

    use super::*;
    use crate::{
        fixture::release,
        layout::{image, tests::parts},
    };

    fn both() -> Vec<(Machine, Vec<File>)> {
        let files = |text: &str| {
            let mut parts = parts();
            parts.tracer = text.as_bytes().to_vec();
            image(&parts)
        };
        vec![(Machine::Arm, files("arm")), (Machine::X86, files("x86"))]
    }

    fn unpacked(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(|entry| {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.path().unwrap().display().to_string(), content)
        });
        entries.collect()
    }

    /// Follows a descriptor, which must be of the very content.
    fn follow<'f>(files: &'f BTreeMap<String, Vec<u8>>, descriptor: &Value) -> &'f [u8] {
        let digest = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
        let content = &files[&format!("blobs/sha256/{digest}")];
        assert_eq!(sha256(content), digest);
        assert_eq!(descriptor["size"], content.len());
        content
    }

    fn parsed(bytes: &[u8]) -> Value {
        serde_json::from_slice(bytes).unwrap()
    }

    #[test]
    fn each_machine_finds_its_program_by_way_of_the_digests() {
        let archive = write(&release(), &both()).unwrap();
        let files = unpacked(&archive.archive);
        assert_eq!(parsed(&files["oci-layout"])["imageLayoutVersion"], "1.0.0");
        let outer = &parsed(&files["index.json"])["manifests"][0];
        assert_eq!(
            outer["annotations"]["io.containerd.image.name"],
            "docker.io/library/tracer:1.2.3"
        );
        assert_eq!(outer["digest"], archive.digest);
        let index = parsed(follow(&files, outer));
        let manifests = index["manifests"].as_array().unwrap();
        assert_eq!(manifests.len(), 2);
        for (descriptor, (architecture, text)) in
            manifests.iter().zip([("amd64", "x86"), ("arm64", "arm")])
        {
            assert_eq!(
                descriptor["platform"],
                json!({"os": "linux", "architecture": architecture})
            );
            let manifest = parsed(follow(&files, descriptor));
            let config = parsed(follow(&files, &manifest["config"]));
            assert_eq!(config["architecture"], architecture);
            assert_eq!(config["created"], "2026-01-01T00:00:00Z");
            assert_eq!(config["config"]["Entrypoint"], json!(["/tracer"]));
            let layer = follow(&files, &manifest["layers"][0]);
            let mut plain = Vec::new();
            flate2::read::GzDecoder::new(layer).read_to_end(&mut plain).unwrap();
            let diff_id = format!("sha256:{}", sha256(&plain));
            assert_eq!(config["rootfs"]["diff_ids"], json!([diff_id]));
            assert_eq!(unpacked(&plain)["tracer"], text.as_bytes());
        }
        // Two layers, two configurations, two manifests, one index, and nothing else.
        assert_eq!(files.keys().filter(|path| path.starts_with("blobs/sha256/")).count() - 1, 7);
    }

    #[test]
    fn an_image_is_the_same_bytes_each_time_in_whatever_order_machines_come() {
        let once = write(&release(), &both()).unwrap();
        let again = write(&release(), &both().into_iter().rev().collect::<Vec<_>>()).unwrap();
        assert_eq!((once.archive, once.digest), (again.archive, again.digest));
    }

    #[test]
    fn the_containerfile_says_the_same() {
        let containerfile = include_str!("../../../deploy/Containerfile");
        let config = config(&release(), Machine::X86, "")["config"].clone();
        let one = |list: &Value| list[0].as_str().unwrap().to_owned();
        for line in [
            format!("ENTRYPOINT [\"{}\"]", one(&config["Entrypoint"])),
            format!("CMD [\"{}\"]", one(&config["Cmd"])),
            format!("USER {}", config["User"].as_str().unwrap()),
            "EXPOSE 9464".to_owned(),
        ] {
            assert!(containerfile.lines().any(|other| other == line), "{line}");
        }
    }
}
