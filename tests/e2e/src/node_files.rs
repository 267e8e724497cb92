//! The configuration files of a node, as text. Paths are those inside the node (its disk is /var).

use crate::node_root::BIN_CONTAINERD;
use crate::pki::NodeCredentials;
use crate::plan::{CLUSTER_DNS, CLUSTER_DOMAIN, NodePlan, REGISTRY_PORT, gateway};

/// Image of the pause container; the lab builds it itself under the usual name.
pub const PAUSE_IMAGE: &str = "registry.k8s.io/pause:3.10";
/// Public registries whose images the lab's own registry stands in for.
pub const MIRRORED: [&str; 6] = [
    "quay.io",
    "docker.io",
    "registry.k8s.io",
    "ghcr.io",
    "gcr.io",
    "registry.redhat.io",
];
/// Directory of all configuration inside a node.
pub const DIR: &str = "/var/lib/lab";

/// All files of a node: path inside the node, and text.
pub fn all(node: &NodePlan, credentials: &NodeCredentials, cgroup: &str) -> Vec<(String, String)> {
    let mut files = vec![
        ("ca.crt", credentials.authority.clone()),
        ("kubelet.kubeconfig", credentials.kubelet.clone()),
        ("kube-proxy.kubeconfig", credentials.proxy.clone()),
        ("kubelet.crt", credentials.serving.cert.clone()),
        ("kubelet.key", credentials.serving.key.clone()),
        ("kubelet.yaml", kubelet(cgroup)),
        ("kube-proxy.yaml", kube_proxy(node)),
        ("containerd.toml", containerd()),
        ("cni/10-lab.conflist", cni(node)),
        // The lab has no DNS but that of the cluster, where one was started.
        ("resolv.conf", String::new()),
    ]
    .into_iter()
    .map(|(name, text)| (format!("{DIR}/{name}"), text))
    .collect::<Vec<_>>();
    files.extend(MIRRORED.map(|registry| (format!("{DIR}/certs.d/{registry}/hosts.toml"), mirror(registry))));
    files
}

/// Arguments of kubelet.
pub fn kubelet_args(node: &NodePlan) -> Vec<String> {
    vec![
        format!("--config={DIR}/kubelet.yaml"),
        format!("--kubeconfig={DIR}/kubelet.kubeconfig"),
        format!("--hostname-override={}", node.name),
        format!("--node-ip={},{}", node.lan.v4, node.lan.v6),
    ]
}

fn kubelet(cgroup: &str) -> String {
    // JSON is YAML; the tests of this file read it back.
    format!(
        r#"{{
  "apiVersion": "kubelet.config.k8s.io/v1beta1",
  "kind": "KubeletConfiguration",
  "authentication": {{"anonymous": {{"enabled": false}}, "webhook": {{"enabled": true}}, "x509": {{"clientCAFile": "{DIR}/ca.crt"}}}},
  "authorization": {{"mode": "Webhook"}},
  "tlsCertFile": "{DIR}/kubelet.crt",
  "tlsPrivateKeyFile": "{DIR}/kubelet.key",
  "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
  "cgroupDriver": "cgroupfs",
  "cgroupRoot": "/{cgroup}",
  "failCgroupV1": false,
  "failSwapOn": false,
  "resolvConf": "{DIR}/resolv.conf",
  "clusterDNS": ["{CLUSTER_DNS}"],
  "clusterDomain": "{CLUSTER_DOMAIN}",
  "volumePluginDir": "/var/lib/kubelet/volume-plugins",
  "staticPodPath": "",
  "serializeImagePulls": false,
  "oomScoreAdj": 0,
  "imageGCHighThresholdPercent": 100,
  "evictionHard": {{"memory.available": "100Mi", "nodefs.available": "1%", "nodefs.inodesFree": "1%", "imagefs.available": "1%", "imagefs.inodesFree": "1%"}}
}}
"#
    )
}

fn kube_proxy(node: &NodePlan) -> String {
    // The conntrack figures say "leave alone": those settings are read-only in a network namespace.
    format!(
        r#"{{
  "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
  "kind": "KubeProxyConfiguration",
  "mode": "nftables",
  "hostnameOverride": "{name}",
  "clientConnection": {{"kubeconfig": "{DIR}/kube-proxy.kubeconfig"}},
  "oomScoreAdj": 0,
  "conntrack": {{"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"}}
}}
"#,
        name = node.name
    )
}

fn containerd() -> String {
    format!(
        r#"version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  "io.containerd.nri.v1.nri",
  "io.containerd.internal.v1.opt",
  "io.containerd.snapshotter.v1.blockfile",
  "io.containerd.snapshotter.v1.erofs",
  "io.containerd.snapshotter.v1.native",
]

[grpc]
  address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images"]
  snapshotter = "overlayfs"
  [plugins."io.containerd.cri.v1.images".pinned_images]
    sandbox = "{PAUSE_IMAGE}"
  [plugins."io.containerd.cri.v1.images".registry]
    config_path = "{DIR}/certs.d"

[plugins."io.containerd.cri.v1.runtime"]
  restrict_oom_score_adj = true
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    runtime_path = "{BIN_CONTAINERD}/containerd-shim-runc-v2"
    [plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
      SystemdCgroup = false
  [plugins."io.containerd.cri.v1.runtime".cni]
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "{DIR}/cni"
    use_internal_loopback = true
"#
    )
}

/// A bridge for the node's pods. The addresses in use are kept under /run, so a node that was switched off has none.
fn cni(node: &NodePlan) -> String {
    let [v4, v6] = node.pod_cidrs();
    format!(
        r#"{{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {{
      "type": "bridge",
      "bridge": "cni0",
      "isDefaultGateway": true,
      "hairpinMode": true,
      "ipam": {{
        "type": "host-local",
        "dataDir": "/run/cni-ipam",
        "ranges": [[{{"subnet": "{v4}"}}], [{{"subnet": "{v6}"}}]]
      }}
    }},
    {{"type": "portmap", "capabilities": {{"portMappings": true}}}}
  ]
}}
"#
    )
}

/// Images of a public registry come from the lab's registry, under a path that begins with the public name; names, tags,
/// digests and pull policies in manifests stay as they are, and nothing is ever asked outside.
fn mirror(registry: &str) -> String {
    let url = format!("http://{}:{REGISTRY_PORT}/v2/{registry}", gateway().v4);
    format!(
        "server = \"{url}\"\noverride_path = true\ncapabilities = [\"pull\", \"resolve\"]\n\n\
         [host.\"{url}\"]\n  override_path = true\n  capabilities = [\"pull\", \"resolve\"]\n"
    )
}

/// nft rules of a node: what leaves the cluster from a pod gets the node's address, as on any cluster whose pod addresses
/// the LAN does not know.
pub fn masquerade(node: &NodePlan) -> String {
    let [v4, v6] = node.pod_cidrs();
    format!(
        "table inet lab {{\n  chain postrouting {{\n    type nat hook postrouting priority srcnat;\n    \
         ip saddr {v4} oifname \"eth*\" ip daddr != 10.244.0.0/16 masquerade\n    \
         ip6 saddr {v6} oifname \"eth*\" ip6 daddr != fd00:10:244::/48 masquerade\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pki::Pair;

    #[test]
    fn configurations_are_well_formed() {
        let node = NodePlan::new(3);
        let credentials = NodeCredentials {
            authority: "ca".into(),
            kubelet: "{}".into(),
            proxy: "{}".into(),
            serving: Pair {
                cert: "c".into(),
                key: "k".into(),
            },
        };
        let files = all(&node, &credentials, "mlb-x/n3");
        for (path, text) in &files {
            assert!(path.starts_with("/var/lib/lab/"), "{path}");
            let extension = std::path::Path::new(path).extension().and_then(|e| e.to_str());
            if matches!(extension, Some("yaml" | "conflist")) {
                serde_json::from_str::<serde_json::Value>(text).unwrap_or_else(|e| panic!("{path}: {e}"));
            }
        }
        assert!(
            files
                .iter()
                .any(|(path, _)| path.ends_with("certs.d/quay.io/hosts.toml"))
        );
    }
}
