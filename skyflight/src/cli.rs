//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use skyflight_client::Format;

/// SQL for catalogs of the sky, over Arrow Flight SQL.
#[derive(Debug, Parser)]
#[command(name = "skyflight", version, arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(subcommand)]
    pub(crate) command: Command,
    /// Configuration file; `skyflight config` prints one with all defaults.
    #[arg(long, global = true, env = "SKYFLIGHT_CONFIG", value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// Log level, or a filter such as `warn,skyflight_server=debug`.
    #[arg(long, global = true, env = "SKYFLIGHT_LOG", default_value = "warn")]
    pub(crate) log: String,
    /// Write log records as JSON.
    #[arg(long, global = true)]
    pub(crate) log_json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load real catalogs, answer sample queries, and stay up.
    Demo(DemoArgs),
    /// A coordinator and workers in one process.
    Serve(ServeArgs),
    /// A coordinator alone; workers join it.
    Coordinator(CoordinatorArgs),
    /// A worker that joins a coordinator.
    Worker(WorkerArgs),
    /// Cut tables into chunks and commit one snapshot.
    Ingest(IngestArgs),
    /// Write a synthetic sky, ready for ingest.
    Generate(GenerateArgs),
    /// Run SQL: interactively, or from -c or -f.
    Sql(SqlArgs),
    /// Those who may log in, where auth.mode is "users".
    User(UserArgs),
    /// Change the keys by which the cluster signs tickets and tokens.
    Key(KeyArgs),
    /// Print the configuration with all defaults.
    Config,
}

#[derive(Debug, Args)]
pub(crate) struct UserArgs {
    #[command(subcommand)]
    pub(crate) action: UserAction,
    /// The coordinator's data folder.
    #[arg(long, global = true, default_value = "./skyflight-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum UserAction {
    /// Add a user; the password is asked for, or read from standard input.
    Add {
        /// The name: ASCII letters, digits and _.
        name: String,
        /// Give the user the tables and jobs that an earlier user of this name left.
        #[arg(long)]
        adopt: bool,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Give a user another password; what was begun with the old one ends.
    Password {
        /// The user.
        name: String,
        #[command(flatten)]
        password: PasswordSource,
    },
    /// Take a user away; the tables of the user stay, jobs that have not begun are cancelled.
    Remove {
        /// The user.
        name: String,
    },
    /// Print all users.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct PasswordSource {
    /// Read the password from the first line of a file.
    #[arg(long, value_name = "FILE")]
    pub(crate) password_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub(crate) struct KeyArgs {
    #[command(subcommand)]
    pub(crate) action: KeyAction,
    /// The file of the keys.
    #[arg(long, global = true, default_value = "./skyflight-data/cluster.key", value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// To change keys without refusing what is out: add, copy the file to every worker, promote, copy it
/// again, and retire the old keys when their last token has expired. Servers read the file again
/// within seconds.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum KeyAction {
    /// Add a new key, which does not sign yet.
    Add,
    /// Let the newest key sign; the others still verify.
    Promote,
    /// Drop every key but the one that signs; what others signed is void.
    Retire,
    /// Print the ids of the keys; the first signs.
    List,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// Folder for the demo's data.
    #[arg(long, default_value = "./skyflight-data/demo", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address of the Flight SQL port; a free port is taken when it is in use.
    #[arg(long, default_value = "127.0.0.1:32010")]
    pub(crate) listen: SocketAddr,
    /// Objects of the synthetic release.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) objects: u64,
    /// Sources of each object.
    #[arg(long, default_value_t = 10)]
    pub(crate) sources: u32,
    /// Leave after the queries instead of staying up.
    #[arg(long)]
    pub(crate) exit: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Folder of the catalog and of the workers' chunks.
    #[arg(long, default_value = "./skyflight-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address of the Flight SQL port; overrides coordinator.listen.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve by TLS with a certificate that is made on the first start; as tls.development = true.
    #[arg(long)]
    pub(crate) tls_dev: bool,
    /// Number of workers; overrides worker.count.
    #[arg(long)]
    pub(crate) workers: Option<usize>,
}

#[derive(Debug, Args)]
pub(crate) struct CoordinatorArgs {
    /// Folder of the catalog.
    #[arg(long, default_value = "./skyflight-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Address of the Flight SQL port; overrides coordinator.listen.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// Serve by TLS with a certificate that is made on the first start; as tls.development = true.
    #[arg(long)]
    pub(crate) tls_dev: bool,
}

#[derive(Debug, Args)]
pub(crate) struct WorkerArgs {
    /// Folder of the worker's chunks.
    #[arg(long, value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// The coordinator to join, http://host:port or https://host:port.
    #[arg(long)]
    pub(crate) coordinator: String,
    /// The cluster's keys: a copy of cluster.key in the coordinator's data folder.
    #[arg(long, value_name = "FILE")]
    pub(crate) cluster_key_file: PathBuf,
    /// Address of the Flight port; overrides worker.listen.
    #[arg(long)]
    pub(crate) listen: Option<SocketAddr>,
    /// How others reach this worker, host or host:port; overrides worker.advertise.
    #[arg(long)]
    pub(crate) advertise: Option<String>,
    /// The worker's id; kept in its data folder once chosen.
    #[arg(long)]
    pub(crate) id: Option<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Mode {
    /// Keep the rows a table has.
    Append,
    /// Replace the rows a table has.
    Replace,
}

#[derive(Debug, Args)]
pub(crate) struct IngestArgs {
    /// What to load: `description.toml=file[,file…]`, or a folder that holds `X.toml` beside `X/`,
    /// `X.parquet` or `X.csv`.
    #[arg(required = true, value_name = "SOURCE")]
    pub(crate) sources: Vec<String>,
    /// The database; made when it does not exist.
    #[arg(long)]
    pub(crate) database: String,
    /// The coordinator's data folder.
    #[arg(long, default_value = "./skyflight-data", value_name = "DIR")]
    pub(crate) data_dir: PathBuf,
    /// Workers that get a copy of each chunk; overrides ingest.replicas.
    #[arg(long)]
    pub(crate) replicas: Option<usize>,
    /// What happens to rows that a table has already.
    #[arg(long, value_enum, default_value_t = Mode::Append)]
    pub(crate) mode: Mode,
    /// Write bad rows to this CSV file instead of stopping at the first.
    #[arg(long, value_name = "FILE")]
    pub(crate) rejects: Option<PathBuf>,
    /// Show the tables as they would be loaded, and load nothing.
    #[arg(long)]
    pub(crate) dry_run: bool,
}

#[derive(Debug, Args)]
pub(crate) struct GenerateArgs {
    /// Folder to write to; made when it does not exist.
    #[arg(long, value_name = "DIR")]
    pub(crate) output: PathBuf,
    /// Objects.
    #[arg(long, default_value_t = 1_000_000)]
    pub(crate) objects: u64,
    /// Mean number of sources of an object.
    #[arg(long, default_value_t = 10)]
    pub(crate) sources: u32,
    /// Mean number of forced sources of an object.
    #[arg(long, default_value_t = 0)]
    pub(crate) forced: u32,
    /// The same seed gives the same sky.
    #[arg(long, default_value_t = 1)]
    pub(crate) seed: u64,
    /// Threads; 0 for one per processor.
    #[arg(long, default_value_t = 0)]
    pub(crate) threads: usize,
}

#[derive(Debug, Args)]
pub(crate) struct SqlArgs {
    /// The server.
    #[arg(long, env = "SKYFLIGHT_URL", default_value = "http://127.0.0.1:32010")]
    pub(crate) url: String,
    /// Run these statements and leave.
    #[arg(short = 'c', long = "command", value_name = "SQL", conflicts_with = "file")]
    pub(crate) command: Option<String>,
    /// Run the statements of a file and leave.
    #[arg(short = 'f', long, value_name = "FILE")]
    pub(crate) file: Option<PathBuf>,
    /// table, csv, json, parquet or arrow.
    #[arg(long, default_value_t = Format::Table)]
    pub(crate) format: Format,
    /// Write rows to a file.
    #[arg(short, long, value_name = "FILE")]
    pub(crate) output: Option<PathBuf>,
    /// User name, where the server wants one.
    #[arg(long)]
    pub(crate) user: Option<String>,
    /// Password or token.
    #[arg(long, env = "SKYFLIGHT_PASSWORD", default_value = "", hide_env_values = true)]
    pub(crate) password: String,
    /// Authority of the server's certificate, PEM, for https://.
    #[arg(long, env = "SKYFLIGHT_CA_FILE", value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Certificate to show to the server, PEM, where it asks for one.
    #[arg(long, value_name = "FILE", requires_all = ["ca_file", "key"])]
    pub(crate) certificate: Option<PathBuf>,
    /// The certificate's private key, PEM.
    #[arg(long, value_name = "FILE", requires = "certificate")]
    pub(crate) key: Option<PathBuf>,
    /// Database in which unqualified tables are looked up first.
    #[arg(long)]
    pub(crate) database: Option<String>,
    /// No timing and no progress.
    #[arg(short, long)]
    pub(crate) quiet: bool,
}
