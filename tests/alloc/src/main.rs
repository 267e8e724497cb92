//! `alloc-lab`: the allocator on real API servers without nodes.

mod cli;

#[tokio::main(flavor = "current_thread")]
async fn main() -> std::process::ExitCode {
    cli::main().await
}
