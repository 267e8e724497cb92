//! Flags and environment, as `MetalLB`'s speaker has them.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use metallb_api::names::{objects, paths, ports};
use metallb_l2::{ConflictPolicy, Probing};
use metallb_telemetry::{Level, TlsOptions, flags};

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
    /// Where membership listens, usually the address of this node that the other speakers reach; without it there is no
    /// membership, and every node of the API counts as alive. With 0.0.0.0 or :: they are told --host.
    #[arg(long, env = "METALLB_ML_BIND_ADDR", default_value = "")]
    pub(crate) ml_bindaddr: String,
    /// Address of this node that the other speakers reach, where --ml-bindaddr does not say it.
    #[arg(long, env = "METALLB_HOST", default_value = "")]
    pub(crate) host: String,
    /// UDP port of membership, the same on all nodes.
    #[arg(
        long, env = "METALLB_ML_BIND_PORT", default_value_t = ports::MEMBERLIST, value_parser = membership_port
    )]
    pub(crate) ml_bindport: u16,
    /// Labels of the speakers' pods; empty: no membership.
    #[arg(
        long,
        env = "METALLB_ML_LABELS",
        default_value = "app=metallb,component=speaker"
    )]
    pub(crate) ml_labels: String,
    /// Directory that holds the shared secret of membership in the file `secretkey`.
    #[arg(long, env = "METALLB_ML_SECRET_KEY_PATH", default_value = paths::MEMBERLIST_DIR)]
    pub(crate) ml_secret_key_path: PathBuf,
    /// Port of /metrics for the network, over TLS for tokens that the API server grants it to; 0 for none.
    #[arg(long, default_value_t = ports::METRICS)]
    pub(crate) port: u16,
    /// Port of /healthz, /readyz, /state and /metrics without TLS, on 127.0.0.1; 0 for none.
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
    /// Serve /metrics without TLS and to everybody.
    #[arg(long)]
    pub(crate) metrics_plain: bool,

    #[command(flatten)]
    pub(crate) layer2: Layer2,
    #[command(flatten)]
    pub(crate) tls: TlsOptions,
    #[command(flatten)]
    ignored: Ignored,
}

/// How the speaker hears the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Membership {
    /// Where it listens.
    pub(crate) listens_on: SocketAddr,
    /// Where the others are told to send.
    pub(crate) told: SocketAddr,
}

/// How addresses are announced by ARP and NDP.
#[derive(clap::Args, Clone, Debug)]
#[command(next_help_heading = "Layer 2")]
pub(crate) struct Layer2 {
    /// Announce every address that this node owns again so often, such as 30s; 0 for never. Refreshes the tables of switches
    /// that forget silent stations. At least 1s.
    #[arg(long, default_value = "0", value_parser = refresh)]
    pub(crate) gratuitous_arp_interval: Duration,
    /// What to do when a station outside the cluster has an address of ours: warn (announce it all the same, and say so), block
    /// (leave it alone while the other has it) or defend (announce it again when the other does, at most every 10 s).
    #[arg(long = "l2-conflict-policy", default_value = "warn", value_parser = conflict_policy)]
    pub(crate) conflict_policy: ConflictPolicy,
    /// How an address that no node announced before is looked for on the network first: fast (three probes in 0.3 s), full
    /// (the times of RFC 5227, 4 to 7 s) or none.
    #[arg(long = "l2-probe", default_value = "fast", value_parser = probing)]
    pub(crate) probing: Probing,
    /// How long the speaker of a node that is up may be away (restart, upgrade, crash) before its addresses move; another node
    /// answers in its name meanwhile. With --l2-strict 5 s at most.
    #[arg(long = "l2-restart-grace", default_value = "30s", value_parser = duration)]
    pub(crate) restart_grace: Duration,
    /// Rank nodes that are cordoned or not ready after all others.
    #[arg(
        long = "l2-unready-last", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set
    )]
    pub(crate) unready_last: bool,
    /// Leave an address where it is when a node of higher rank returns.
    #[arg(
        long = "l2-non-preempt", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set
    )]
    pub(crate) non_preempt: bool,
    /// Answer only while this node holds its Lease: no address is ever answered for by two nodes; a failed node is followed after
    /// 10 s, and nobody answers when the API server has been away for 9 s.
    #[arg(
        long = "l2-strict", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
        require_equals = true, action = clap::ArgAction::Set
    )]
    pub(crate) strict: bool,
    /// UID of the MetalLB resource to which the Leases of --l2-strict belong, so that they go with it. Empty: to nobody.
    #[arg(long = "l2-lease-owner", default_value = "")]
    pub(crate) lease_owner: String,
}

/// Flags of `MetalLB`'s speaker that have nothing to set here. They are accepted, so that manifests written for it work, and
/// named in the log once.
#[derive(clap::Args, Debug)]
#[command(next_help_heading = "Accepted for compatibility, without effect")]
struct Ignored {
    /// Membership has one set of times, which suits both
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "")]
    ml_wan_config: String,
    /// There is no profiler
    #[arg(long, default_value = "")]
    pprof_bind_address: String,
    /// There is no frr-k8s
    #[arg(long, env = "FRRK8S_NAMESPACE", default_value = "")]
    frrk8s_namespace: String,
    /// There is no frr-k8s
    #[arg(long, num_args = 0..=1, require_equals = true, default_missing_value = "true", default_value = "")]
    frrk8s_secret_passthrough: String,
    /// There is no FRR whose reload takes time
    #[arg(long, env = "METALLB_BGP_DEBOUNCE_TIMEOUT", default_value = "")]
    bgp_debounce_timeout: String,
}

/// A duration as Go writes it, or whole seconds.
fn duration(text: &str) -> Result<Duration, String> {
    if let Ok(seconds) = text.parse() {
        return Ok(Duration::from_secs(seconds));
    }
    metallb_model::nanoseconds(text)
        .and_then(|nanoseconds| u64::try_from(nanoseconds).ok())
        .map(Duration::from_nanos)
        .ok_or_else(|| "write a number with a unit, such as 30s or 1m30s".to_owned())
}

/// The same, but neither so short that the network is flooded.
fn refresh(text: &str) -> Result<Duration, String> {
    let every = duration(text)?;
    if every.is_zero() || every >= metallb_l2::REFRESH_MIN {
        Ok(every)
    } else {
        Err(format!("must be 0 or at least {:?}", metallb_l2::REFRESH_MIN))
    }
}

fn conflict_policy(text: &str) -> Result<ConflictPolicy, &'static str> {
    match text {
        "warn" => Ok(ConflictPolicy::Warn),
        "block" => Ok(ConflictPolicy::Block),
        "defend" => Ok(ConflictPolicy::Defend),
        _ => Err("must be warn, block or defend"),
    }
}

fn probing(text: &str) -> Result<Probing, &'static str> {
    match text {
        "fast" => Ok(Probing::Fast),
        "full" => Ok(Probing::Full),
        "none" => Ok(Probing::None),
        _ => Err("must be fast, full or none"),
    }
}

/// An empty variable is as good as none.
fn membership_port(text: &str) -> Result<u16, std::num::ParseIntError> {
    if text.is_empty() {
        Ok(ports::MEMBERLIST)
    } else {
        text.parse()
    }
}

impl Args {
    /// Names of the flags that were given although nothing reads them.
    pub(crate) fn ignored(&self) -> Vec<&'static str> {
        let ignored = &self.ignored;
        flags::given([
            ("ml-wan-config", &ignored.ml_wan_config),
            ("pprof-bind-address", &ignored.pprof_bind_address),
            ("frrk8s-namespace", &ignored.frrk8s_namespace),
            ("frrk8s-secret-passthrough", &ignored.frrk8s_secret_passthrough),
            ("bgp-debounce-timeout", &ignored.bgp_debounce_timeout),
        ])
    }

    /// How the other speakers are heard; `None`: there is no membership, as in `MetalLB` when the address or the labels are not
    /// set.
    ///
    /// # Errors
    /// An address that is none; one that says nothing of this node, without `--host` to say it.
    pub(crate) fn membership(&self) -> anyhow::Result<Option<Membership>> {
        let bind = &self.ml_bindaddr;
        if bind.is_empty() || self.ml_labels.is_empty() {
            return Ok(None);
        }
        let parsed = |name, value: &str| {
            let ip: Result<IpAddr, _> = value.parse();
            ip.with_context(|| format!("{name}: {value:?} is no IP address"))
        };
        let listens_on = parsed("METALLB_ML_BIND_ADDR", bind)?;
        let told = if listens_on.is_unspecified() {
            ensure!(
                !self.host.is_empty(),
                "METALLB_ML_BIND_ADDR is {bind}, which peers cannot be told: give this node's address in METALLB_HOST, by \
                 fieldRef status.hostIP"
            );
            parsed("METALLB_HOST", &self.host)?
        } else {
            listens_on
        };
        // A socket of `::` hears IPv4 too.
        ensure!(
            listens_on.is_ipv6() || told.is_ipv4(),
            "METALLB_ML_BIND_ADDR is {bind}, where {told} (METALLB_HOST) is not heard: listen on ::"
        );
        Ok(Some(Membership {
            listens_on: SocketAddr::new(listens_on, self.ml_bindport),
            told: SocketAddr::new(told, self.ml_bindport),
        }))
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
        let words = ["metallb-speaker", "--node-name=n1"].iter().chain(flags);
        Args::try_parse_from(flags::with_two_dashes(words.map(ToString::to_string)))
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
            "--tls-min-version=VersionTLS12",
            "--tls-cipher-suites=",
            "--tls-curve-preferences=29",
            "--frrk8s-secret-passthrough=true",
            "--frrk8s-namespace=frr-k8s-system",
            "--bgp-debounce-timeout=3000",
            "--pprof-bind-address=127.0.0.1:6060",
            "--gratuitous-arp-interval=30s",
        ]);
        let args = args.expect("accepted");
        assert_eq!((args.port, args.ignore_exclude_lb), (7472, true));
        assert_eq!(heard(&args), Some(["192.0.2.1:7946"; 2].map(str::to_owned)));
        assert_eq!(args.tls.cert_dir, "/certs");
        assert_eq!(args.layer2.gratuitous_arp_interval, Duration::from_secs(30));
        let ignored = [
            "ml-wan-config",
            "pprof-bind-address",
            "frrk8s-namespace",
            "frrk8s-secret-passthrough",
            "bgp-debounce-timeout",
        ];
        assert_eq!(args.ignored(), ignored);
    }

    #[test]
    fn one_dash_is_as_good_as_two_and_nothing_is_needed() {
        let args = parse(&["-port", "0", "-ml-bindport="]).expect("accepted");
        assert_eq!((args.port, args.ml_bindport), (0, 7946));
        assert!(args.ignored().is_empty());
        assert_eq!(heard(&args), None);
        let unlabelled = parse(&["--ml-bindaddr=192.0.2.1", "--ml-labels="]).expect("accepted");
        assert_eq!(heard(&unlabelled), None);
    }

    /// Where it listens and what is told.
    fn heard(args: &Args) -> Option<[String; 2]> {
        let membership = args.membership().expect("understood")?;
        Some([membership.listens_on, membership.told].map(|address| address.to_string()))
    }

    #[test]
    fn peers_are_told_the_node_and_not_what_membership_listens_on() {
        for (bind, host, told) in [
            ("0.0.0.0", "192.0.2.1", ["0.0.0.0:7946", "192.0.2.1:7946"]),
            ("::", "192.0.2.1", ["[::]:7946", "192.0.2.1:7946"]),
            ("::", "2001:db8::1", ["[::]:7946", "[2001:db8::1]:7946"]),
            ("192.0.2.7", "192.0.2.1", ["192.0.2.7:7946"; 2]),
        ] {
            let args = parse(&[&format!("--ml-bindaddr={bind}"), &format!("--host={host}")]);
            assert_eq!(
                heard(&args.expect("accepted")),
                Some(told.map(str::to_owned)),
                "{bind}"
            );
        }
        for (bind, host, error) in [
            ("0.0.0.0", "", "in METALLB_HOST"),
            ("0.0.0.0", "n1", "METALLB_HOST: \"n1\" is no IP address"),
            ("0.0.0.0", "2001:db8::1", "listen on ::"),
        ] {
            let args = parse(&[&format!("--ml-bindaddr={bind}"), &format!("--host={host}")]);
            let refused = args.expect("accepted").membership().expect_err(error);
            assert!(format!("{refused:#}").contains(error), "{refused:#}");
        }
    }

    #[test]
    fn layer_2_can_be_chosen() {
        let usual = parse(&[]).expect("accepted").layer2;
        assert_eq!(
            (usual.conflict_policy, usual.probing, usual.restart_grace),
            (ConflictPolicy::Warn, Probing::Fast, Duration::from_secs(30))
        );
        assert!(!usual.unready_last && !usual.non_preempt && !usual.strict);
        let chosen = parse(&[
            "--l2-conflict-policy=defend",
            "--l2-probe=full",
            "--l2-restart-grace=10",
            "--l2-unready-last",
            "--l2-non-preempt=true",
            "--l2-strict=false",
        ]);
        let chosen = chosen.expect("accepted").layer2;
        assert_eq!(
            (chosen.conflict_policy, chosen.probing, chosen.restart_grace),
            (ConflictPolicy::Defend, Probing::Full, Duration::from_secs(10))
        );
        assert!(chosen.unready_last && chosen.non_preempt && !chosen.strict);
        for wrong in [
            "--gratuitous-arp-interval=10ms",
            "--gratuitous-arp-interval=often",
            "--gratuitous-arp-interval=-1s",
            "--l2-conflict-policy=fight",
            "--l2-probe=",
        ] {
            assert!(parse(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn wrong_values_are_named() {
        let name = parse(&["--ml-bindaddr=node1"]).expect("accepted").membership();
        assert!(format!("{:#}", name.expect_err("name")).contains("\"node1\" is no IP address"));
        assert!(parse(&["--log-level=loud"]).is_err());
        assert!(parse(&["--ml-bindport=70000"]).is_err());
    }
}
