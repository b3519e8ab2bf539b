//! Components and overlays for clusters that differ: each is rendered, and what it
//! changes is exactly what it is for. Whatever weakens a confinement is in one of
//! these, and never in the base.

use std::fs;

use k8s_openapi::api::{
    apps::v1::DaemonSet,
    core::v1::{Container, PodSpec, SELinuxOptions, SecurityContext, ServiceAccount},
    rbac::v1::{ClusterRole, RoleBinding},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{
    files_below,
    manifests::{KUBERNETES, SecurityContextConstraints, find_unknown, kustomize},
    parse_yaml, read, run, workspace,
};
use crate::skip::skip;

/// Skips if no program that renders them is installed.
macro_rules! need_kustomize {
    () => {
        if kustomize().is_none() {
            skip!("neither kubectl nor kustomize is here");
        }
    };
}

/// Renders a base or an overlay with components through kustomize; all types are known.
pub fn render(resource: &str, components: &[&str]) -> Vec<Value> {
    let target = workspace().join("target");
    let folder = tempfile::tempdir_in(target).unwrap();
    let path = |name: &str| format!("../../{KUBERNETES}/{name}");
    let kustomization = json!({
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": [path(resource)],
        "components": components.iter().map(|name| path(&format!("components/{name}"))).collect::<Vec<_>>(),
    });
    fs::write(folder.path().join("kustomization.yaml"), kustomization.to_string()).unwrap();
    let made = run(kustomize().unwrap().arg(folder.path()));
    let documents = parse_yaml(folder.path(), &made);
    for document in &documents {
        assert_eq!(find_unknown(document), Ok(Vec::new()), "{resource} with {components:?}");
    }
    documents
}

fn find<'a>(documents: &'a [Value], kind: &str) -> &'a Value {
    let mut found = documents.iter().filter(|document| document["kind"] == kind);
    let document = found.next().unwrap_or_else(|| panic!("no {kind}"));
    assert!(found.next().is_none(), "more than one {kind}");
    document
}

fn typed<T: DeserializeOwned>(documents: &[Value], kind: &str) -> T {
    serde_json::from_value(find(documents, kind).clone()).unwrap()
}

fn pod(documents: &[Value]) -> PodSpec {
    typed::<DaemonSet>(documents, "DaemonSet").spec.template.spec.unwrap()
}

fn container(documents: &[Value]) -> Container {
    let [container] = pod(documents).containers.try_into().unwrap();
    container
}

fn rights(documents: &[Value]) -> SecurityContext {
    container(documents).security_context.unwrap()
}

fn selinux(
    user: Option<&str>,
    role: Option<&str>,
    type_: &str,
    level: Option<&str>,
) -> SELinuxOptions {
    let own = |text: Option<&str>| text.map(str::to_owned);
    SELinuxOptions {
        user: own(user),
        role: own(role),
        type_: Some(type_.to_owned()),
        level: own(level),
    }
}

/// Checks that a component changes only what it is for: with that undone, the DaemonSet
/// must equal that of the base.
#[track_caller]
fn check_changes_nothing_else(component: &str, strip: impl Fn(&mut Value)) {
    let [mut before, mut after] = [render("base", &[]), render("base", &[component])]
        .map(|documents| find(&documents, "DaemonSet").clone());
    assert_ne!(before, after, "{component}");
    strip(&mut before);
    strip(&mut after);
    assert_eq!(before, after, "{component}");
}

fn security_context(daemonset: &mut Value) -> &mut serde_json::Map<String, Value> {
    let container = &mut daemonset["spec"]["template"]["spec"]["containers"][0];
    container["securityContext"].as_object_mut().unwrap()
}

#[test]
fn the_base_confines_as_far_as_the_tracer_allows() {
    need_kustomize!();
    let rights = rights(&render("base", &[]));
    assert_eq!(rights.se_linux_options, None);
    assert_eq!(rights.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(rights.privileged, Some(false));
    for file in files_below(&format!("{KUBERNETES}/base"), &[".yaml"]) {
        let text = read(&file);
        for weaker in ["seLinuxOptions", "spc_t", "super_t", "SYS_ADMIN\n", "privileged: true"] {
            let says =
                |line: &str| !line.trim().starts_with('#') && format!("{line}\n").contains(weaker);
            assert!(!text.lines().any(says), "{weaker} in {file:?}");
        }
    }
}

#[test]
fn before_kubernetes_1_30_apparmor_is_an_annotation_and_no_field() {
    need_kustomize!();
    let annotation = "container.apparmor.security.beta.kubernetes.io/tracer";
    let documents = render("base", &["apparmor-annotation"]);
    let daemonset = find(&documents, "DaemonSet");
    let annotations = &daemonset["spec"]["template"]["metadata"]["annotations"];
    assert_eq!(annotations[annotation], "unconfined");
    assert_eq!(rights(&documents).app_armor_profile, None);
    check_changes_nothing_else("apparmor-annotation", |daemonset| {
        security_context(daemonset).remove("appArmorProfile");
        let annotations = &mut daemonset["spec"]["template"]["metadata"]["annotations"];
        annotations.as_object_mut().unwrap().remove(annotation);
    });
}

#[test]
fn selinux_and_bottlerocket_have_a_type_each_and_nothing_else() {
    need_kustomize!();
    let of_bottlerocket = selinux(Some("system_u"), Some("system_r"), "super_t", Some("s0"));
    for (component, expected) in
        [("selinux", selinux(None, None, "spc_t", None)), ("bottlerocket", of_bottlerocket)]
    {
        let rights = rights(&render("base", &[component]));
        assert_eq!(rights.se_linux_options, Some(expected), "{component}");
        check_changes_nothing_else(component, |daemonset| {
            security_context(daemonset).remove("seLinuxOptions");
        });
    }
}

#[test]
fn an_old_runtimes_seccomp_profile_is_left_out_and_nothing_else() {
    need_kustomize!();
    let rights = rights(&render("base", &["seccomp-unconfined"]));
    assert_eq!(rights.seccomp_profile.unwrap().type_, "Unconfined");
    check_changes_nothing_else("seccomp-unconfined", |daemonset| {
        security_context(daemonset).remove("seccompProfile");
    });
}

#[test]
fn components_for_one_node_go_together() {
    need_kustomize!();
    let components = [
        "apparmor-annotation",
        "selinux",
        "seccomp-unconfined",
        "module-hooks",
        "kube-prometheus-stack",
    ];
    let documents = render("overlays/k3s", &components);
    let rights = rights(&documents);
    assert_eq!(rights.se_linux_options, Some(selinux(None, None, "spc_t", None)));
    assert_eq!(rights.seccomp_profile.unwrap().type_, "Unconfined");
    assert!(rights.capabilities.unwrap().add.unwrap().contains(&"SYS_ADMIN".to_owned()));
    assert_eq!(rights.app_armor_profile, None);
    find(&documents, "PodMonitor");
}

/// The constraints admit exactly this DaemonSet, and allow no more than it uses.
#[test]
fn openshifts_constraints_are_what_the_daemonset_uses() {
    need_kustomize!();
    let documents = render("overlays/openshift", &[]);
    let constraints: SecurityContextConstraints = typed(&documents, "SecurityContextConstraints");
    let (pod, rights) = (pod(&documents), rights(&documents));
    let capabilities = rights.capabilities.unwrap();
    assert_eq!(Some(&constraints.allowed_capabilities), capabilities.add.as_ref());
    assert_eq!(Some(&constraints.required_drop_capabilities), capabilities.drop.as_ref());
    assert_eq!(constraints.default_add_capabilities, [""; 0]);
    assert_eq!(Some(constraints.allow_privileged_container), rights.privileged);
    assert_eq!(Some(constraints.allow_privilege_escalation), rights.allow_privilege_escalation);
    assert!(!constraints.allow_privileged_container && !constraints.allow_privilege_escalation);
    assert_eq!(Some(constraints.read_only_root_filesystem), rights.read_only_root_filesystem);
    assert!(constraints.allow_host_pid && pod.host_pid == Some(true));
    let (ipc, network) = (pod.host_ipc.unwrap_or(false), pod.host_network.unwrap_or(false));
    assert_eq!((constraints.allow_host_ipc, constraints.allow_host_network), (ipc, network));
    assert!(!constraints.allow_host_ports && !ipc && !network);
    assert!(constraints.allow_host_dir_volume_plugin);

    let kind = |volume: &k8s_openapi::api::core::v1::Volume| match volume {
        volume if volume.host_path.is_some() => "hostPath",
        volume if volume.config_map.is_some() => "configMap",
        volume if volume.empty_dir.is_some() => "emptyDir",
        volume => panic!("{volume:?}"),
    };
    let mut kinds: Vec<_> = pod.volumes.unwrap().iter().map(kind).collect();
    kinds.sort_unstable();
    kinds.dedup();
    assert_eq!(constraints.volumes, kinds);

    let user = (constraints.run_as_user.kind.as_str(), constraints.run_as_user.uid);
    assert_eq!(user, ("MustRunAs", rights.run_as_user));
    assert_eq!(rights.run_as_user, Some(0));
    let context = selinux(Some("system_u"), Some("system_r"), "spc_t", Some("s0"));
    assert_eq!(constraints.se_linux_context.kind, "MustRunAs");
    assert_eq!(constraints.se_linux_context.se_linux_options.as_ref(), Some(&context));
    assert_eq!(rights.se_linux_options, Some(context));
    assert_eq!(rights.seccomp_profile.unwrap().type_, "RuntimeDefault");
    assert_eq!(constraints.seccomp_profiles, ["runtime/default"]);
}

#[test]
fn openshifts_constraints_are_for_the_tracers_account_alone() {
    need_kustomize!();
    let documents = render("overlays/openshift", &[]);
    let constraints: SecurityContextConstraints = typed(&documents, "SecurityContextConstraints");
    assert_eq!((constraints.users.len(), constraints.groups.len()), (0, 0));
    let role: ClusterRole = typed(&documents, "ClusterRole");
    let [rule] = role.rules.unwrap().try_into().unwrap();
    assert_eq!(rule.verbs, ["use"]);
    assert_eq!(rule.api_groups.unwrap(), ["security.openshift.io"]);
    assert_eq!(rule.resources.unwrap(), ["securitycontextconstraints"]);
    assert_eq!(
        rule.resource_names.unwrap(),
        [find(&documents, "SecurityContextConstraints")["metadata"]["name"].as_str().unwrap()]
    );

    let binding: RoleBinding = typed(&documents, "RoleBinding");
    let account: ServiceAccount = typed(&documents, "ServiceAccount");
    assert_eq!(binding.role_ref.kind, "ClusterRole");
    assert_eq!(Some(binding.role_ref.name), role.metadata.name);
    assert_eq!(binding.metadata.namespace, account.metadata.namespace);
    let [subject] = binding.subjects.unwrap().try_into().unwrap();
    assert_eq!(subject.kind, "ServiceAccount");
    assert_eq!(Some(subject.name), account.metadata.name);
    assert_eq!(subject.namespace, account.metadata.namespace);
    assert_eq!(pod(&documents).service_account_name, account.metadata.name);
}

#[test]
fn a_monitor_for_kube_prometheus_stack_has_its_releases_label() {
    need_kustomize!();
    let plain = render("base", &["podmonitor"]);
    let labelled = render("base", &["kube-prometheus-stack"]);
    let (plain, labelled) = (find(&plain, "PodMonitor"), find(&labelled, "PodMonitor"));
    assert_eq!(plain["metadata"]["labels"]["release"], Value::Null);
    assert_eq!(labelled["metadata"]["labels"]["release"], "kube-prometheus-stack");
    assert_eq!(labelled["metadata"]["labels"]["app.kubernetes.io/name"], "tracer");
    assert_eq!(plain["spec"], labelled["spec"]);
    let page = read("docs/kubernetes.md");
    assert!(
        page.contains("components/kube-prometheus-stack") && page.contains("podMonitorSelector")
    );
}
