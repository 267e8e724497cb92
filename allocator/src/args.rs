//! Flags and environment of the process: those of `MetalLB`'s controller.

use clap::Parser;
use metallb_api::names::{env, ports};
use metallb_telemetry::{Level, TlsOptions, flags};

/// Gives services of type LoadBalancer their addresses.
#[derive(Parser, Debug)]
#[command(name = "metallb-allocator", version)]
pub(crate) struct Args {
    /// Port of /metrics, over TLS for tokens that the API server grants it to; 0 turns it off
    #[arg(long, default_value_t = ports::METRICS)]
    pub(crate) port: u16,
    /// Port of /healthz and /readyz; 0 turns them off
    #[arg(long, default_value_t = ports::HEALTH)]
    pub(crate) health_probe_port: u16,
    /// Namespace that holds the configuration; default: the namespace of the service account
    #[arg(long, env = env::NAMESPACE)]
    pub(crate) namespace: Option<String>,
    /// all, debug, info, warn, error or none
    #[arg(long, default_value_t)]
    pub(crate) log_level: Level,
    /// spec.loadBalancerClass to serve; default: services without a class
    #[arg(long, default_value = "")]
    pub(crate) lb_class: String,
    /// With --lb-class: serve services without a class too
    #[arg(long)]
    pub(crate) lb_class_and_classless: bool,
    /// Give a released address last instead of first
    #[arg(long)]
    pub(crate) fair_reuse: bool,
    /// Serve /metrics without TLS and to everybody
    #[arg(long)]
    pub(crate) metrics_plain: bool,
    /// Name of the own Deployment: Lease and ConfigurationState go when it goes
    #[arg(long, env = env::DEPLOYMENT, default_value = "")]
    pub(crate) deployment: String,
    /// Name of the own pod
    #[arg(long, env = env::POD_NAME, default_value = "")]
    pub(crate) pod_name: String,
    /// UID of the own pod, which identifies the holder of the Lease across container restarts
    #[arg(long, env = env::POD_UID, default_value = "")]
    pub(crate) pod_uid: String,
    /// Secret with the speakers' membership key, made if there is none; empty: somebody else makes it
    #[arg(long, env = env::ML_SECRET_NAME, default_value = "")]
    pub(crate) ml_secret_name: String,
    /// Name of the speakers' DaemonSet: the Secret with the membership key stays while it or the own Deployment is there
    #[arg(long, env = env::DAEMON_SET, default_value = "")]
    pub(crate) daemonset: String,
    // Each has a heading of its own in the help, which holds for all that follows.
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
    #[command(flatten)]
    pub(crate) accepted: Accepted,
}

/// Flags of `MetalLB`'s controller that have nothing to set here. They are accepted, so that manifests written for it work,
/// and named in the log once.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
pub(crate) struct Accepted {
    /// There is no profiler
    #[arg(long, default_value = "")]
    pprof_bind_address: String,
    /// There are no webhooks
    #[arg(long, default_value = "")]
    webhook_mode: String,
    /// There are no webhooks
    #[arg(long, default_value = "")]
    webhook_secret: String,
    /// There are no webhooks
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "")]
    webhook_http2: String,
    /// There are no webhooks
    #[arg(long, num_args = 0..=1, default_missing_value = "true", default_value = "")]
    disable_cert_rotation: String,
    /// There are no webhooks
    #[arg(long, default_value = "")]
    cert_dir: String,
    /// There are no webhooks
    #[arg(long, default_value = "")]
    cert_service_name: String,
}

impl Accepted {
    /// Names of the flags that were given although nothing reads them.
    pub(crate) fn given(&self) -> Vec<&'static str> {
        flags::given([
            ("pprof-bind-address", &self.pprof_bind_address),
            ("webhook-mode", &self.webhook_mode),
            ("webhook-secret", &self.webhook_secret),
            ("webhook-http2", &self.webhook_http2),
            ("disable-cert-rotation", &self.disable_cert_rotation),
            ("cert-dir", &self.cert_dir),
            ("cert-service-name", &self.cert_service_name),
        ])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Args {
        let words = std::iter::once("metallb-allocator")
            .chain(line.split_whitespace())
            .map(str::to_owned);
        Args::try_parse_from(flags::with_two_dashes(words)).unwrap_or_else(|error| panic!("{error}"))
    }

    #[test]
    fn takes_what_metallbs_manifests_pass() {
        let args = parse(
            "--port=7472 --log-level=debug --tls-min-version=VersionTLS12 --webhook-mode=disabled \
             --disable-cert-rotation --webhook-http2=false --lb-class=metallb.io/metallb --cert-dir /tmp/x",
        );
        assert_eq!(
            (args.port, args.log_level, args.lb_class.as_str()),
            (7472, Level::Debug, "metallb.io/metallb")
        );
        assert_eq!(args.tls.min_version, "VersionTLS12");
        let given = [
            "webhook-mode",
            "webhook-http2",
            "disable-cert-rotation",
            "cert-dir",
        ];
        assert_eq!(args.accepted.given(), given);
    }

    #[test]
    fn one_dash_is_as_good_as_two() {
        let args = parse("-port 0 -log-level warn");
        assert_eq!((args.port, args.log_level), (0, Level::Warn));
        assert!(args.accepted.given().is_empty());
    }
}
