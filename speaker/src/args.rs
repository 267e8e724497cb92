//! Flags and environment, as `MetalLB`'s speaker has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use clap::Parser;
use metallb_api::names::{objects, paths, ports};
use metallb_telemetry::Level;

/// Makes the addresses of `LoadBalancer` services reachable from this node.
#[derive(Parser, Debug)]
#[command(name = "metallb-speaker", version)]
pub(crate) struct Args {
    /// Namespace of this installation; by default that of the pod's service account.
    #[arg(long, env = "METALLB_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Name of this node.
    #[arg(long, env = "METALLB_NODE_NAME")]
    pub(crate) node_name: String,
    /// Name of this pod.
    #[arg(long, env = "METALLB_POD_NAME", default_value = "")]
    pub(crate) pod_name: String,
    /// UID of this pod, the owner of the status objects that it writes; found by its name when not given.
    #[arg(long, env = "METALLB_POD_UID", default_value = "")]
    pub(crate) pod_uid: String,
    /// Address of this node that the other speakers reach.
    #[arg(long, env = "METALLB_ML_BIND_ADDR", default_value = "")]
    pub(crate) ml_bindaddr: String,
    /// UDP port of membership, the same on all nodes.
    #[arg(long, env = "METALLB_ML_BIND_PORT", default_value_t = ports::MEMBERLIST)]
    pub(crate) ml_bindport: u16,
    /// Labels of the speakers' pods.
    #[arg(
        long,
        env = "METALLB_ML_LABELS",
        default_value = "app=metallb,component=speaker"
    )]
    pub(crate) ml_labels: String,
    /// Directory that holds the shared secret of membership in the file `secretkey`.
    #[arg(long, env = "METALLB_ML_SECRET_KEY_PATH", default_value = paths::MEMBERLIST_DIR)]
    pub(crate) ml_secret_key_path: PathBuf,
    /// Port of the metrics; 0 for none.
    #[arg(long, default_value_t = ports::METRICS)]
    pub(crate) port: u16,
    /// Port of `/healthz`, `/readyz` and `/state`, on 127.0.0.1.
    #[arg(long, default_value_t = ports::HEALTH)]
    pub(crate) health_probe_port: u16,
    /// all, debug, info, warn, error or none.
    #[arg(long, default_value_t = Level::Info)]
    pub(crate) log_level: Level,
    /// Announce services of this load-balancer class instead of those without one.
    #[arg(long, default_value = "")]
    pub(crate) lb_class: String,
    /// Announce also from nodes labelled `node.kubernetes.io/exclude-from-external-load-balancers`.
    #[arg(
        long, default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set
    )]
    pub(crate) ignore_exclude_lb: bool,

    #[command(flatten)]
    ignored: Ignored,
}

/// Flags of `MetalLB` that do not mean anything here; accepted so that existing manifests work.
#[derive(clap::Args, Debug)]
struct Ignored {
    #[arg(long, hide = true)]
    host: Option<String>,
    #[arg(
        long, hide = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    ml_wan_config: Option<String>,
    #[arg(long, hide = true)]
    pprof_bind_address: Option<String>,
    #[arg(long, hide = true, env = "FRRK8S_NAMESPACE")]
    frrk8s_namespace: Option<String>,
    #[arg(
        long, hide = true, default_missing_value = "true", num_args = 0..=1, require_equals = true
    )]
    frrk8s_secret_passthrough: Option<String>,
    #[arg(long, hide = true, env = "METALLB_BGP_DEBOUNCE_TIMEOUT")]
    bgp_debounce_timeout: Option<String>,
    #[arg(long, hide = true)]
    tls_min_version: Option<String>,
    #[arg(long, hide = true)]
    tls_cipher_suites: Option<String>,
    #[arg(long, hide = true)]
    tls_curve_preferences: Option<String>,
    #[arg(long, hide = true)]
    metrics_cert_dir: Option<String>,
}

impl Args {
    /// Says once which given flags have no effect.
    pub(crate) fn log_ignored(&self) {
        let Ignored {
            host,
            ml_wan_config,
            pprof_bind_address,
            frrk8s_namespace,
            frrk8s_secret_passthrough,
            bgp_debounce_timeout,
            tls_min_version,
            tls_cipher_suites,
            tls_curve_preferences,
            metrics_cert_dir,
        } = &self.ignored;
        let given = [
            ("host", host),
            ("ml-wan-config", ml_wan_config),
            ("pprof-bind-address", pprof_bind_address),
            ("frrk8s-namespace", frrk8s_namespace),
            ("frrk8s-secret-passthrough", frrk8s_secret_passthrough),
            ("bgp-debounce-timeout", bgp_debounce_timeout),
            ("tls-min-version", tls_min_version),
            ("tls-cipher-suites", tls_cipher_suites),
            ("tls-curve-preferences", tls_curve_preferences),
            ("metrics-cert-dir", metrics_cert_dir),
        ];
        for (flag, value) in given {
            if let Some(value) = value {
                tracing::info!(flag, value, "this flag has no effect");
            }
        }
    }

    /// Where membership listens, which is also what peers are told.
    pub(crate) fn membership_address(&self) -> anyhow::Result<SocketAddr> {
        if self.ml_bindaddr.is_empty() {
            bail!(
                "METALLB_ML_BIND_ADDR (or --ml-bindaddr) is not set: give this node's address, in a DaemonSet by \
                 fieldRef status.podIP"
            );
        }
        let ip: IpAddr = self
            .ml_bindaddr
            .parse()
            .with_context(|| format!("METALLB_ML_BIND_ADDR: {:?} is no IP address", self.ml_bindaddr))?;
        Ok(SocketAddr::new(ip, self.ml_bindport))
    }

    /// The namespace of this installation.
    pub(crate) fn own_namespace(&self) -> String {
        const SERVICE_ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
        self.namespace
            .clone()
            .filter(|namespace| !namespace.is_empty())
            .unwrap_or_else(|| {
                std::fs::read_to_string(SERVICE_ACCOUNT).map_or_else(
                    |_| objects::DEFAULT_NAMESPACE.to_owned(),
                    |text| text.trim().to_owned(),
                )
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(flags: &[&str]) -> Result<Args, clap::Error> {
        Args::try_parse_from(["metallb-speaker", "--node-name=n1"].iter().chain(flags))
    }

    #[test]
    fn flags_of_metallbs_manifests_are_accepted() {
        let args = parse(&[
            "--port=7472",
            "--log-level=debug",
            "--lb-class=example.com/lb",
            "--ignore-exclude-lb=true",
            "--ml-bindaddr=192.0.2.1",
            "--ml-bindport=7946",
            "--ml-labels=app=metallb,component=speaker",
            "--ml-secret-key-path=/etc/ml_secret_key",
            "--ml-wan-config",
            "--host=192.0.2.1",
            "--metrics-cert-dir=/certs",
            "--frrk8s-secret-passthrough=true",
        ]);
        let args = args.expect("accepted");
        assert_eq!((args.port, args.ignore_exclude_lb), (7472, true));
        assert_eq!(
            args.membership_address().expect("address"),
            "192.0.2.1:7946".parse().expect("address")
        );
    }

    #[test]
    fn wrong_values_are_named() {
        let unset = parse(&[]).expect("accepted").membership_address();
        assert!(
            unset
                .expect_err("unset")
                .to_string()
                .contains("METALLB_ML_BIND_ADDR")
        );
        let name = parse(&["--ml-bindaddr=node1"])
            .expect("accepted")
            .membership_address();
        assert!(format!("{:#}", name.expect_err("name")).contains("\"node1\" is no IP address"));
        assert!(parse(&["--log-level=loud"]).is_err());
    }
}
