//! Flags and environment.

use anyhow::{Context as _, bail};
use clap::Parser;
use metallb_api::names::{env, ports};
use metallb_render::{Images, Installation, Installer, Ports};
use metallb_telemetry::Level;

/// What was typed.
#[derive(Parser, Debug)]
#[command(
    name = "metallb-operator",
    version,
    about = "Runs the controller and the speakers that a MetalLB resource asks for."
)]
pub(crate) struct Args {
    /// Image of the controller.
    #[arg(long, env = "CONTROLLER_IMAGE", default_value = "")]
    controller_image: String,
    /// Image of the speakers.
    #[arg(long, env = "SPEAKER_IMAGE", default_value = "")]
    speaker_image: String,
    /// Namespace the operator runs in.
    #[arg(long, env = "OPERATOR_NAMESPACE", default_value = "")]
    namespace: String,
    /// Port of the operands' metrics.
    #[arg(long, env = "METRICS_PORT", default_value_t = ports::METRICS)]
    metrics_port: u16,
    /// Port of the operands' health endpoints.
    #[arg(long, env = "OPERAND_LIVENESS_PORT", default_value_t = ports::HEALTH)]
    operand_health_port: u16,
    /// Port of the speakers' membership.
    #[arg(long, env = "MEMBER_LIST_BIND_PORT", default_value_t = ports::MEMBERLIST)]
    memberlist_port: u16,
    /// Port of the operator's own health and metrics endpoints.
    #[arg(long, env = "HEALTH_PORT", default_value_t = ports::OPERATOR_HEALTH)]
    health_port: u16,
    /// all, debug, info, warn, error or none.
    #[arg(long, env = "LOG_LEVEL", default_value = "info")]
    log_level: Level,
    /// Name of the operator's pod, for events.
    #[arg(long, env = "HOSTNAME", default_value = "metallb-operator")]
    pod_name: String,
    /// UID of the operator's pod, which identifies the holder of the Lease across container restarts.
    #[arg(long, env = env::POD_UID, default_value = "")]
    pod_uid: String,
    /// Release, as shown in the status of the resource. The same build is released under the version that its bundle or
    /// manifest says.
    #[arg(long, env = env::OPERATOR_VERSION, default_value = "")]
    operator_version: String,
}

/// What it means.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) images: Images,
    pub(crate) ports: Ports,
    pub(crate) namespace: String,
    pub(crate) health_port: u16,
    pub(crate) log_level: Level,
    pub(crate) pod_name: String,
    /// Holder of the Lease: the pod's UID, or its name.
    pub(crate) identity: String,
    /// Release, as shown in the status of the resource.
    pub(crate) version: String,
}

impl Settings {
    pub(crate) fn from_args(args: Args) -> anyhow::Result<Self> {
        Ok(Settings {
            images: Images {
                controller: image("CONTROLLER_IMAGE", "--controller-image", &args.controller_image)?,
                speaker: image("SPEAKER_IMAGE", "--speaker-image", &args.speaker_image)?,
            },
            ports: Ports {
                metrics: args.metrics_port,
                health: args.operand_health_port,
                memberlist: args.memberlist_port,
            },
            namespace: own_namespace(args.namespace).context("the operator's namespace is unknown")?,
            health_port: args.health_port,
            log_level: args.log_level,
            identity: if args.pod_uid.is_empty() {
                args.pod_name.clone()
            } else {
                args.pod_uid
            },
            pod_name: args.pod_name,
            version: if args.operator_version.is_empty() {
                concat!("v", env!("CARGO_PKG_VERSION")).into()
            } else {
                args.operator_version
            },
        })
    }

    /// The installation in a namespace, for whom `installer` says.
    pub(crate) fn installation(&self, namespace: &str, installer: Installer) -> Installation {
        Installation {
            namespace: namespace.into(),
            images: self.images.clone(),
            ports: self.ports,
            installer,
        }
    }
}

fn image(variable: &str, flag: &str, value: &str) -> anyhow::Result<String> {
    let value = value.trim();
    if value.is_empty() {
        bail!(
            "no image: set {variable} (or {flag}) to a complete image name such as quay.io/metallb-rs/speaker:v0.1.0; \
             it belongs to the operator's release and is in its Deployment"
        );
    }
    Ok(value.to_owned())
}

fn own_namespace(given: String) -> anyhow::Result<String> {
    const FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";
    if !given.is_empty() {
        return Ok(given);
    }
    let text = std::fs::read_to_string(FILE).with_context(|| {
        format!("set OPERATOR_NAMESPACE (in a pod {FILE} tells it, and it cannot be read here)")
    })?;
    Ok(text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(args: &[&str]) -> anyhow::Result<Settings> {
        let mut all = vec!["metallb-operator", "--namespace=ns"];
        all.extend(args);
        Settings::from_args(Args::try_parse_from(all)?)
    }

    #[test]
    fn images_are_mandatory_and_the_error_says_which() {
        let error = settings(&["--controller-image=c"]).unwrap_err().to_string();
        assert!(error.contains("SPEAKER_IMAGE"), "{error}");
        let settings =
            settings(&["--controller-image=c", "--speaker-image=s", "--metrics-port=7472"]).unwrap();
        assert_eq!(
            settings.images,
            Images {
                controller: "c".into(),
                speaker: "s".into()
            }
        );
        assert_eq!(
            settings.ports,
            Ports {
                metrics: 7472,
                ..Ports::default()
            }
        );
    }

    #[test]
    fn the_release_is_what_the_deployment_says_or_the_version_of_the_build() {
        let version = |args: &[&str]| {
            let images = ["--controller-image=c", "--speaker-image=s"];
            settings(&[&images[..], args].concat()).unwrap().version
        };
        assert_eq!(version(&[]), concat!("v", env!("CARGO_PKG_VERSION")));
        assert_eq!(version(&["--operator-version=v0.0.9"]), "v0.0.9");
    }
}
