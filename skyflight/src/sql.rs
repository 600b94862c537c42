//! `skyflight sql`.

use std::io::{IsTerminal, Read};
use std::path::PathBuf;

use anyhow::{Context, Result};
use skyflight_client::{Connection, ShellOptions, TlsOptions, run_script, run_shell};

use crate::cli::SqlArgs;

fn tls_options(args: &SqlArgs) -> Result<Option<TlsOptions>> {
    let read = |path: &PathBuf| std::fs::read(path).with_context(|| format!("cannot read {}", path.display()));
    let Some(authorities) = &args.ca_file else { return Ok(None) };
    let identity = match (&args.certificate, &args.key) {
        (Some(certificate), Some(key)) => Some((read(certificate)?, read(key)?)),
        _ => None,
    };
    Ok(Some(TlsOptions { authorities: read(authorities)?, identity }))
}

pub(crate) async fn run(args: SqlArgs) -> Result<()> {
    let tls = tls_options(&args)?;
    let mut connection = Connection::open_with(&args.url, tls.as_ref()).await?;
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
