//! The one binary: reads the command line and starts what it asks for.

mod cli;
mod config;
mod demo;
mod follow;
mod http;
mod ingest;
mod keys;
mod node;
mod sources;
mod sql;
mod sweep;
mod telemetry;
mod uploads;
mod user;

use anyhow::{Context, Result};
use clap::Parser;
use tracing_subscriber::EnvFilter;

use crate::cli::{Cli, Command};
use crate::config::Config;

// The planner and the decoders allocate much and briefly; this allocator is made for that.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let cli = Cli::parse();
    match run(cli) {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            std::process::ExitCode::FAILURE
        }
    }
}

fn run(cli: Cli) -> Result<()> {
    start_log(&cli)?;
    if let Command::Config = cli.command {
        print!("{}", config::DEFAULTS);
        return Ok(());
    }
    let config = Config::load(cli.config.as_deref())?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_name("skyflight-io")
        .build()
        .context("cannot start the runtime")?;
    runtime.block_on(async move {
        match cli.command {
            Command::Demo(args) => demo::run(args, config).await,
            Command::Serve(args) => node::serve(args, config).await,
            Command::Coordinator(args) => node::coordinator(args, config).await,
            Command::Worker(args) => node::worker(args, config).await,
            Command::Ingest(args) => ingest::run(args, config).await,
            Command::Generate(args) => ingest::generate(args).await,
            Command::Sql(args) => sql::run(args).await,
            Command::User(args) => user::run(args, config).await,
            Command::Key(args) => keys::run(&args),
            Command::Config => Ok(()),
        }
    })
}

fn start_log(cli: &Cli) -> Result<()> {
    let filter = EnvFilter::try_new(&cli.log).with_context(|| format!("--log {:?} is no filter", cli.log))?;
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if cli.log_json {
        log.json().init();
    } else {
        log.init();
    }
    Ok(())
}
