//! The collector's configurations: they name parts that exist, and look for the agent where
//! it is.
//!
//! No registry that this project takes programs from has the collector, so nothing here
//! runs its own check of a configuration.

use std::{net::SocketAddr, path::Path};

use serde_json::Value;
use tracer::agent::config::{Config, settings::Settings};

use super::{files_below, queries, read, read_yaml, workspace};

fn configurations() -> Vec<(String, Value)> {
    let files = files_below("deploy/opentelemetry", &[".yaml"]);
    let named = files.iter().map(|file| {
        let name = file.file_name().unwrap().to_string_lossy().into_owned();
        (name, read_yaml(file))
    });
    named.collect()
}

fn names(list: &Value) -> Vec<&str> {
    list.as_array().unwrap().iter().map(|name| name.as_str().unwrap()).collect()
}

/// The jobs of the Prometheus receiver.
fn jobs(configuration: &Value) -> &[Value] {
    let receiver = &configuration["receivers"]["prometheus"]["config"];
    receiver["scrape_configs"].as_array().unwrap()
}

#[test]
fn a_pipeline_has_only_parts_that_are_configured() {
    let all = configurations();
    assert_eq!(all.len(), 2);
    for (file, configuration) in &all {
        let pipelines = configuration["service"]["pipelines"].as_object().unwrap();
        assert_eq!(pipelines.keys().collect::<Vec<_>>(), ["metrics"], "{file}");
        for part in ["receivers", "processors", "exporters"] {
            let used = names(&pipelines["metrics"][part]);
            let mut known: Vec<_> =
                configuration[part].as_object().unwrap().keys().map(String::as_str).collect();
            let mut sorted = used.clone();
            sorted.sort_unstable();
            known.sort_unstable();
            assert_eq!(sorted, known, "{file}: {part}");
        }
        // The collector's own advice: the limiter comes first.
        assert_eq!(pipelines["metrics"]["processors"][0], "memory_limiter", "{file}");
    }
}

/// `${1}` in a configuration of Prometheus would be a variable of the environment here.
#[test]
fn a_dollar_is_a_variable_of_the_environment() {
    for (file, _) in configurations() {
        let text = read(Path::new("deploy/opentelemetry").join(&file));
        for rest in text.split('$').skip(1) {
            assert!(rest.starts_with("{env:"), "{file}: ${}", &rest[..rest.len().min(20)]);
        }
    }
}

#[test]
fn it_scrapes_what_an_agent_serves_and_where() {
    let served = queries::documented();
    for (file, configuration) in &configurations() {
        let [job] = jobs(configuration) else { panic!("{file}: more than one job") };
        assert_eq!(job["metrics_path"], "/metrics", "{file}");
        assert_eq!(job["honor_labels"], true, "{file}");
        let kept = job["metric_relabel_configs"].as_array().map_or(&[][..], Vec::as_slice);
        for rule in kept {
            assert_eq!(rule["action"], "keep");
            for name in rule["regex"].as_str().unwrap().trim().split('|') {
                // The parts of a histogram are in one pair of brackets.
                let name = name.split(['(', ')']).next().unwrap();
                let family = name.trim_end_matches('_');
                let is_part = ["sum", "count"].contains(&family);
                assert!(is_part || served.contains_key(family), "{file}: {family} is not served");
            }
        }
    }
}

/// A host's agent listens at the address in the file, and a pod's port has the name in it.
#[test]
fn it_looks_where_agents_listen() {
    let all = configurations();
    let job = |name: &str| {
        let (_, configuration) = all.iter().find(|(file, _)| file == name).unwrap();
        &jobs(configuration)[0]
    };
    let target = job("host.yaml")["static_configs"][0]["targets"][0].as_str().unwrap();
    let listens: SocketAddr = Config::load(&Settings::default(), None).unwrap().listen;
    let (host, port) = target.split_once(':').unwrap();
    assert_eq!((host, port), ("localhost", listens.port().to_string().as_str()));
    assert_eq!(job("host.yaml")["scheme"], "https");
    for field in ["ca_file", "cert_file", "key_file"] {
        assert!(job("host.yaml")["tls_config"][field].is_string(), "{field}");
    }

    let discovered = job("kubernetes.yaml");
    let daemonset = read_yaml(&workspace().join("deploy/kubernetes/base/daemonset.yaml"));
    let container = &daemonset["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(container["ports"][0]["name"], "metrics");
    let rule = &discovered["relabel_configs"][0];
    assert_eq!((&rule["regex"], &rule["action"]), (&"metrics".into(), &"keep".into()));
    let namespaces = &discovered["kubernetes_sd_configs"][0]["namespaces"]["names"];
    let namespace = read_yaml(&workspace().join("deploy/kubernetes/base/namespace.yaml"));
    assert_eq!(names(namespaces), [namespace["metadata"]["name"].as_str().unwrap()]);
    // The base has no web-config file.
    assert_eq!(discovered["scheme"], "http");
}
