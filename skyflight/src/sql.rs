//! `skyflight sql`.

use std::io::{IsTerminal, Read};

use anyhow::{Context, Result};
use skyflight_client::{Connection, ShellOptions, run_script, run_shell};

use crate::cli::SqlArgs;

pub(crate) async fn run(args: SqlArgs) -> Result<()> {
    let mut connection = Connection::open(&args.url).await?;
    if let Some(user) = &args.user {
        connection.log_in(user, &args.password).await?;
    }
    if let Some(database) = &args.database {
        connection.set_header("x-skyflight-schema", database);
    }
    let options = ShellOptions { format: args.format, output: args.output, quiet: args.quiet };
    let script = match (args.command, args.file) {
        (Some(sql), _) => sql,
        (None, Some(path)) => {
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
        }
        (None, None) if std::io::stdin().is_terminal() => {
            return Ok(run_shell(&mut connection, options).await?);
        }
        (None, None) => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
            text
        }
    };
    Ok(run_script(&mut connection, &script, &options).await?)
}
