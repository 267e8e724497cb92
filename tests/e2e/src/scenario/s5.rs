//! One address for TCP and UDP: iperf3, which opens a TCP connection before it sends UDP.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use super::workload::{Lb, SOON, addresses, fresh_namespace, remove_namespace, rolled_out, wait_address};
use crate::{Cluster, cache, cluster::CLIENT, images, sh, wait_for};

const WORK: &str = "s5";
const IMAGE: &str = "docker.io/networkstatic/iperf3:latest";

/// The whole scenario.
pub fn shared_address(cluster: &mut Cluster) -> Result<()> {
    cluster.push(&image()?, IMAGE)?;
    fresh_namespace(cluster, WORK)?;
    cluster.kubectl(&[
        "create",
        "deployment",
        "iperf3",
        "-n",
        WORK,
        "--image",
        IMAGE,
        "--",
        "iperf3",
        "-s",
    ])?;
    rolled_out(cluster, WORK, "iperf3")?;
    // One of either prefix of annotations.
    let tcp = Lb {
        namespace: WORK,
        name: "iperf3-tcp",
        app: "iperf3",
        port: "port: 5201, protocol: TCP",
        annotations: "metallb.universe.tf/allow-shared-ip: iperf3",
        ..Lb::default()
    };
    let udp = Lb {
        name: "iperf3-udp",
        port: "port: 5201, protocol: UDP",
        annotations: "metallb.io/allow-shared-ip: iperf3",
        ..tcp
    };
    udp.apply(cluster)?;
    tcp.apply(cluster)?;
    let address = wait_address(cluster, WORK, "iperf3-udp")?;
    let other = wait_address(cluster, WORK, "iperf3-tcp")?;
    ensure!(
        address == other,
        "UDP got {address} and TCP {other}: they should share one"
    );
    wait_for("iperf3 to run over the shared address", SOON, || {
        iperf3(cluster, address).map(Some)
    })?;

    cluster.kubectl(&["delete", "service", "-n", WORK, "iperf3-tcp"])?;
    let said = wait_for("iperf3 to be refused without the TCP service", SOON, || {
        Ok(iperf3(cluster, address).err())
    })?;
    let said = format!("{said:#}");
    ensure!(
        said.contains("unable to connect"),
        "iperf3 failed otherwise: {said}"
    );
    ensure!(
        addresses(cluster, WORK, "iperf3-udp")? == [address],
        "the UDP service has not kept {address}"
    );

    tcp.apply(cluster)?;
    let again = wait_address(cluster, WORK, "iperf3-tcp")?;
    ensure!(again == address, "TCP came back with {again}, not {address}");
    wait_for("iperf3 to run again", SOON, || iperf3(cluster, address).map(Some))?;
    remove_namespace(cluster, WORK)
}

/// `iperf3 -u -c ADDRESS` on the client, for a second.
fn iperf3(cluster: &Cluster, address: IpAddr) -> Result<()> {
    let mut command = cluster.exec(CLIENT, "iperf3")?;
    let to = address.to_string();
    command.args([
        "-u",
        "-c",
        &to,
        "-t",
        "1",
        "-b",
        "5M",
        "--connect-timeout",
        "2000",
        "--json",
    ]);
    let output = sh::output(&mut command)?;
    let report: Value = serde_json::from_slice(&output.stdout).context("iperf3 printed no JSON")?;
    if let Some(error) = report["error"].as_str() {
        bail!("iperf3: {error}");
    }
    let sum = &report["end"]["sum"];
    let (packets, lost) = (sum["packets"].as_u64(), sum["lost_packets"].as_u64());
    match (packets, lost) {
        (Some(packets), Some(lost)) if packets > 0 && lost < packets => Ok(()),
        _ => bail!("iperf3 sent {packets:?} packets and lost {lost:?}"),
    }
}

/// An image around Debian's iperf3 and the libraries it is linked to; an archive in the cache.
fn image() -> Result<PathBuf> {
    let program = Path::new("/usr/bin/iperf3");
    let listed = sh::run(Command::new("ldd").arg(program))?;
    // "libx.so.0 => /lib/.../libx.so.0 (0x...)", and the loader by its path alone.
    let mut files: BTreeSet<PathBuf> = listed
        .split_whitespace()
        .filter(|word| word.starts_with('/'))
        .map(PathBuf::from)
        .collect();
    ensure!(
        !files.is_empty(),
        "{} is linked to nothing: {listed}",
        program.display()
    );
    files.insert(program.to_owned());
    let mut hash = Vec::new();
    for file in &files {
        hash.push(fs::read(file).with_context(|| format!("read {}", file.display()))?);
    }
    let hash = cache::fnv64(&hash.iter().map(Vec::as_slice).collect::<Vec<_>>());
    let cache_dir = cache::dir()?;
    let dir = cache::entry(
        &cache_dir.join("images").join(format!("iperf3-{hash:016x}")),
        |scratch| {
            let context = scratch.join("context");
            for file in &files {
                let to = context.join(file.strip_prefix("/")?);
                fs::create_dir_all(to.parent().context("a file has a directory")?)?;
                fs::copy(file, &to).with_context(|| format!("copy {}", file.display()))?;
            }
            // iperf3 keeps what it sends in a file there.
            fs::create_dir_all(context.join("tmp"))?;
            let containerfile = scratch.join("Containerfile");
            fs::write(
                &containerfile,
                "FROM scratch AS iperf3\nCOPY . /\nENV PATH=/usr/bin\nENTRYPOINT [\"/usr/bin/iperf3\"]\n",
            )?;
            images::build_image(
                &cache_dir,
                &containerfile,
                &context,
                "iperf3",
                &scratch.join("iperf3.oci.tar"),
            )?;
            fs::remove_dir_all(&context).context("remove the build context")
        },
    )?;
    Ok(dir.join("iperf3.oci.tar"))
}
