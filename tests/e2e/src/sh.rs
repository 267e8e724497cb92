//! Running other programs: the output, or an error that shows the command and what it said.

use std::io::Write;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, bail};

/// Runs to the end and returns standard output; a failure carries the command line and standard error.
pub fn run(command: &mut Command) -> Result<String> {
    let output = output(command)?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Runs to the end and returns output and exit status, whatever the status.
pub fn output(command: &mut Command) -> Result<Output> {
    command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("start {}", show(command)))
}

/// As [`run`] with text for standard input.
pub fn run_with_input(command: &mut Command, input: &str) -> Result<String> {
    let output = output_with_input(command, input)?;
    check(command, &output)?;
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// As [`output`] with text for standard input. A program that ends well without reading it all is an error.
pub fn output_with_input(command: &mut Command, input: &str) -> Result<Output> {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("start {}", show(command)))?;
    let mut stdin = child.stdin.take().context("standard input is piped")?;
    let text = input.to_owned();
    // A thread of its own: a child that writes before it has read everything would block both sides.
    let feeder = std::thread::spawn(move || stdin.write_all(text.as_bytes()));
    let output = child
        .wait_with_output()
        .with_context(|| format!("wait for {}", show(command)))?;
    let fed = feeder
        .join()
        .map_err(|_| anyhow::anyhow!("the thread that feeds standard input panicked"))?;
    if output.status.success() {
        fed.with_context(|| format!("write to {}", show(command)))?;
    }
    Ok(output)
}

/// True if the program ran and said yes; a program that cannot be started counts as no.
pub fn succeeds(command: &mut Command) -> bool {
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn check(command: &Command, output: &Output) -> Result<()> {
    if !output.status.success() {
        let stderr = String::from_utf8_lossy(&output.stderr);
        let stdout = String::from_utf8_lossy(&output.stdout);
        let said = if stderr.trim().is_empty() {
            stdout.trim()
        } else {
            stderr.trim()
        };
        bail!("{} failed ({}): {said}", show(command), output.status);
    }
    Ok(())
}

/// The command line as a person would type it.
fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for arg in command.get_args() {
        text.push(' ');
        text.push_str(&arg.to_string_lossy());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_shows_command_and_message() {
        let error = run(Command::new("sh").args(["-c", "echo no such luck >&2; exit 3"]))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("sh -c") && error.contains("no such luck") && error.contains('3'),
            "{error}"
        );
    }

    #[test]
    fn input_larger_than_a_pipe_gets_through() {
        let text = "x".repeat(300_000);
        assert_eq!(run_with_input(&mut Command::new("cat"), &text).unwrap(), text);
    }
}
