//! Names of containers that are no pod's, as Docker and Podman keep them.
//!
//! A container's id goes in, its name and that of its pod come out, read once. The files
//! hold the containers' whole configuration, with what may be secret in it; nothing but
//! the names is taken from them.
//!
//! Podman keeps the names of pods in a database of its own (BoltDB or SQLite), which is not
//! read. The runtime's configuration of a container names the pod's first container
//! ("infra"), which has the pod's name for its host name, unless the pod was given another
//! one. A pod without an infra container has no name here.
//!
//! Sources: moby `container/container.go`, `configFileName` (v27);
//! containers/storage `containers.go`, `containerStore.containerspath` (v1.55); the
//! configurations of pods were looked at as Podman 4.3.1 writes them.
//! Only the usual directories are looked into: Docker's `data-root` and the
//! storage of a user's Podman lie elsewhere.

use std::num::NonZeroUsize;

use lru::LruCache;
use serde::Deserialize;

use super::cgroup_path::{Container, bounded, is_container_id};
use crate::{
    errand::{Answer, Errand, Errands},
    tree::Tree,
};

const DOCKER: &str = "var/lib/docker/containers";
const PODMAN: &str = "var/lib/containers/storage/overlay-containers";

/// Podman's lists of containers; those started with `--rm` are in the second.
const PODMAN_FILES: [&str; 2] = ["containers.json", "volatile-containers.json"];

/// Podman has all containers in one file, at about a kilobyte each.
const FILE_BYTES: usize = 4 << 20;

const MAX_CONTAINERS: NonZeroUsize = NonZeroUsize::new(4096).expect("not zero");

/// The names of a container, as far as they were found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Named {
    pub container: Option<Box<str>>,
    /// The pod of Podman's that it is in.
    pub pod: Option<Box<str>>,
}

#[derive(Debug)]
pub struct Containers {
    /// Also those of which no name was found.
    names: LruCache<Box<str>, Named>,
    /// The reading of this one's names, which the disk does not let end.
    reading: Option<(Box<str>, Errand<Named>)>,
    evicted: u64,
}

impl Default for Containers {
    fn default() -> Self {
        Self { names: LruCache::new(MAX_CONTAINERS), reading: None, evicted: 0 }
    }
}

#[derive(Deserialize)]
struct DockerConfig {
    #[serde(rename = "Name")]
    name: String,
}

#[derive(Deserialize)]
struct PodmanContainer {
    id: String,
    #[serde(default)]
    names: Vec<String>,
}

/// The configuration that the runtime is given for a container of Podman's.
#[derive(Deserialize)]
struct RuntimeConfig {
    #[serde(default)]
    hostname: String,
    #[serde(default)]
    annotations: Annotations,
}

#[derive(Default, Deserialize)]
struct Annotations {
    /// The infra container of its pod; the pod itself where it has none.
    #[serde(rename = "io.kubernetes.cri-o.SandboxID")]
    sandbox: Option<String>,
}

impl Containers {
    pub fn find_names(
        &mut self,
        tree: &Tree,
        errands: &mut Errands,
        container: &Container,
    ) -> Named {
        self.look_after_reading();
        if !self.names.contains(container.id.as_str()) && self.reading.is_none() {
            self.read(tree, errands, container);
        }
        self.names.get(container.id.as_str()).cloned().unwrap_or_default()
    }

    fn read(&mut self, tree: &Tree, errands: &mut Errands, container: &Container) {
        let (tree, id) = (tree.clone(), container.id.clone());
        let answer = match container.runtime.as_str() {
            "docker" => errands.run(move || read_docker(&tree, &id)),
            "podman" => errands.run(move || read_podman(&tree, &id)),
            _ => Answer::Done(Named::default()),
        };
        self.learn(container.id.as_str().into(), answer);
    }

    fn look_after_reading(&mut self) {
        if let Some((id, errand)) = self.reading.take() {
            self.learn(id, errand.look());
        }
    }

    fn learn(&mut self, id: Box<str>, answer: Answer<Named>) {
        match answer {
            Answer::Done(named) => {
                self.evicted += u64::from(self.names.push(id, named).is_some());
            }
            Answer::Late(errand) => self.reading = Some((id, errand)),
            Answer::None => {}
        }
    }

    /// Names evicted to make room.
    pub fn evicted(&self) -> u64 {
        self.evicted
    }
}

fn part(name: &str) -> Option<Box<str>> {
    (!name.is_empty()).then(|| bounded(name).into())
}

fn read_docker(tree: &Tree, id: &str) -> Named {
    let config = tree.read_up_to(format!("{DOCKER}/{id}/config.v2.json"), FILE_BYTES).ok();
    let config = config.and_then(|config| serde_json::from_slice::<DockerConfig>(&config).ok());
    let name = config.map(|DockerConfig { name }| name).unwrap_or_default();
    Named { container: part(name.strip_prefix('/').unwrap_or(&name)), pod: None }
}

fn read_podman(tree: &Tree, id: &str) -> Named {
    let name = PODMAN_FILES.into_iter().find_map(|file| {
        let file = tree.read_up_to(format!("{PODMAN}/{file}"), FILE_BYTES).ok()?;
        let all: Vec<PodmanContainer> = serde_json::from_slice(&file).ok()?;
        all.into_iter().find(|container| container.id == id)?.names.into_iter().next()
    });
    Named { container: name.as_deref().and_then(part), pod: read_pod(tree, id) }
}

fn read_pod(tree: &Tree, id: &str) -> Option<Box<str>> {
    let read = |id: &str| -> Option<RuntimeConfig> {
        let path = format!("{PODMAN}/{id}/userdata/config.json");
        serde_json::from_slice(&tree.read_up_to(path, FILE_BYTES).ok()?).ok()
    };
    // Annotations can be given to a container: it must not lead to another file.
    let infra = read(id)?.annotations.sandbox.filter(|infra| is_container_id(infra))?;
    part(&read(&infra)?.hostname)
}
