//! Small servers that the scenarios put into pods: `pause`, `whoami`, `udp-echo PORT...`, `tcp-echo PORT...`.

mod echo;
mod whoami;

use std::process::ExitCode;

use nix::sys::signal::{SigSet, Signal};

fn main() -> ExitCode {
    // A container's first process gets no signal that it did not ask for: without this every pod would take the full grace
    // period to end. Set before any thread starts, so that all threads inherit it.
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.add(Signal::SIGINT);
    if let Err(error) = signals.thread_block() {
        eprintln!("testserver: take over signals: {error}");
        return ExitCode::FAILURE;
    }
    let args: Vec<String> = std::env::args().skip(1).collect();
    let (command, rest) = match args.split_first() {
        Some((command, rest)) => (command.as_str(), rest),
        None => ("", [].as_slice()),
    };
    let started = match command {
        "pause" => Ok(()),
        "whoami" => whoami::start(rest),
        "udp-echo" => echo::start(rest, echo::udp),
        "tcp-echo" => echo::start(rest, echo::tcp),
        _ => Err(
            "usage: testserver pause | whoami [--port N] | udp-echo PORT... | tcp-echo PORT...".to_owned(),
        ),
    };
    if let Err(error) = started {
        eprintln!("testserver: {error}");
        return ExitCode::FAILURE;
    }
    match signals.wait() {
        Ok(_) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("testserver: wait for a signal: {error}");
            ExitCode::FAILURE
        }
    }
}
