//! Names of containers that are no pod's, as Docker and Podman keep them.
//!
//! A container's id goes in, its name comes out, read once. The files hold the
//! containers' whole configuration, with what may be secret in it; nothing but
//! the name is taken from them.
//!
//! Sources: moby `container/container.go`, `configFileName` (v27);
//! containers/storage `containers.go`, `containerStore.containerspath` (v1.55).
//! Only the usual directories are looked into: Docker's `data-root` and the
//! storage of a user's Podman lie elsewhere.

use std::num::NonZeroUsize;

use lru::LruCache;
use serde::Deserialize;

use super::cgroup_path::{Container, bounded};
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

#[derive(Debug)]
pub struct Containers {
    /// `None` for a container whose name was not found.
    names: LruCache<Box<str>, Option<Box<str>>>,
    /// The reading of this one's name, which the disk does not let end.
    reading: Option<(Box<str>, Errand<Option<String>>)>,
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

impl Containers {
    pub fn find_name(
        &mut self,
        tree: &Tree,
        errands: &mut Errands,
        container: &Container,
    ) -> Option<&str> {
        self.look_after_reading();
        if !self.names.contains(container.id.as_str()) && self.reading.is_none() {
            self.read(tree, errands, container);
        }
        self.names.get(container.id.as_str())?.as_deref()
    }

    fn read(&mut self, tree: &Tree, errands: &mut Errands, container: &Container) {
        let (tree, id) = (tree.clone(), container.id.clone());
        let answer = match container.runtime.as_str() {
            "docker" => errands.run(move || read_docker(&tree, &id)),
            "podman" => errands.run(move || read_podman(&tree, &id)),
            _ => Answer::Done(None),
        };
        self.learn(container.id.as_str().into(), answer);
    }

    fn look_after_reading(&mut self) {
        if let Some((id, errand)) = self.reading.take() {
            self.learn(id, errand.look());
        }
    }

    fn learn(&mut self, id: Box<str>, answer: Answer<Option<String>>) {
        match answer {
            Answer::Done(name) => {
                let name = name.filter(|name| !name.is_empty()).map(|name| bounded(&name).into());
                self.evicted += u64::from(self.names.push(id, name).is_some());
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

fn read_docker(tree: &Tree, id: &str) -> Option<String> {
    let config = tree.read_up_to(format!("{DOCKER}/{id}/config.v2.json"), FILE_BYTES).ok()?;
    let DockerConfig { name } = serde_json::from_slice(&config).ok()?;
    Some(name.strip_prefix('/').unwrap_or(&name).to_owned())
}

fn read_podman(tree: &Tree, id: &str) -> Option<String> {
    PODMAN_FILES.into_iter().find_map(|file| {
        let file = tree.read_up_to(format!("{PODMAN}/{file}"), FILE_BYTES).ok()?;
        let all: Vec<PodmanContainer> = serde_json::from_slice(&file).ok()?;
        all.into_iter().find(|container| container.id == id)?.names.into_iter().next()
    })
}
