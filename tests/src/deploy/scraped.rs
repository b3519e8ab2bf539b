//! Prometheus' own program checks the configurations that the pages and the collector's
//! files show for scraping an agent.
//!
//! Debian's promtool is built without the discovery of Kubernetes' pods and does not know
//! `kubernetes_sd_configs`. That part is replaced by a target, and `collector` checks it.

use std::fs;

use serde_json::{Value, json};

use super::{find_program, read, read_yaml, run, workspace};
use crate::skip::skip;

/// The blocks of YAML in a page.
fn blocks(page: &str) -> Vec<Value> {
    let text = read(page);
    let blocks = text.split("```yaml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.map(|block| serde_saphyr::from_str(block).unwrap()).collect()
}

/// Configurations of Prometheus: that of each block of docs/metrics.md, and those that the
/// collector's receiver gets.
fn configurations() -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for (number, block) in blocks("docs/metrics.md").into_iter().enumerate() {
        let whole = match block.get("relabel_configs") {
            Some(rules) => json!({"scrape_configs": [{"job_name": "x", "relabel_configs": rules}]}),
            None => block,
        };
        found.push((format!("docs/metrics.md, block {number}"), whole));
    }
    for file in ["kubernetes.yaml", "host.yaml"] {
        let collector = read_yaml(&workspace().join("deploy/opentelemetry").join(file));
        found.push((file.to_owned(), collector["receivers"]["prometheus"]["config"].clone()));
    }
    found
}

#[test]
fn promtool_takes_each_configuration_that_scrapes_an_agent() {
    let all = configurations();
    assert!(all.len() >= 4, "{all:?}");
    if find_program("promtool").is_none() {
        skip!("`promtool` is not installed: `cargo xtask setup` installs it");
    }
    let folder = tempfile::tempdir().unwrap();
    let check = |config: &Value| {
        let mut config = config.clone();
        for job in config["scrape_configs"].as_array_mut().into_iter().flatten() {
            let job = job.as_object_mut().unwrap();
            if job.remove("kubernetes_sd_configs").is_some() {
                job.insert("static_configs".into(), json!([{"targets": ["10.0.0.21:9464"]}]));
            }
        }
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config.to_string()).unwrap();
        let mut promtool = find_program("promtool").unwrap();
        // Certificates are on no machine that builds this.
        promtool.args(["check", "config", "--syntax-only"]).arg(&file);
        promtool
    };
    for (name, config) in &all {
        println!("{name}");
        run(&mut check(config));
    }
    // It reads the rules, and does not only look whether this is YAML.
    let discovers = |config: &Value| {
        let jobs = config["scrape_configs"].as_array();
        jobs.is_some_and(|jobs| jobs[0]["kubernetes_sd_configs"].is_array())
    };
    let (_, config) = all.iter().find(|(_, config)| discovers(config)).unwrap();
    let mut wrong = config.clone();
    wrong["scrape_configs"][0]["relabel_configs"][0]["action"] = "kept".into();
    assert!(!check(&wrong).output().unwrap().status.success());
}
