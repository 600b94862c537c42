//! `skyflight user`: those who may log in. Works on the catalog, with or without a running server.

use std::io::{BufRead, IsTerminal};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, ensure};
use skyflight_catalog::{CatalogStore, JobFilter, JobState, JobStep, check_user_name};
use skyflight_engine::own::own_database;
use skyflight_server::hash_password;

use crate::cli::{PasswordSource, UserAction, UserArgs};
use crate::config::Config;
use crate::node::Home;

pub(crate) async fn run(args: UserArgs, config: Config) -> Result<()> {
    let store = Home::open(&args.data_dir, &config).await?.store;
    match args.action {
        UserAction::Add { name, adopt, password } => {
            // Before anybody types a password in vain.
            check_user_name(&name)?;
            if !adopt && store.user(&name).await?.is_none() {
                refuse_what_is_left(store.as_ref(), &name).await?;
            }
            store.add_user(&name, &hash_password(&read(&name, &password)?)?).await?;
            println!("added {name}");
        }
        UserAction::Password { name, password } => {
            store.set_password(&name, &hash_password(&read(&name, &password)?)?).await?;
            println!("changed the password of {name}");
        }
        UserAction::Remove { name } => {
            let known = store.user(&name).await?.map_or_else(|| name.clone(), |user| user.name);
            store.remove_user(&name).await?;
            let cancelled = cancel_queued(store.as_ref(), &known).await?;
            println!("removed {name}");
            if cancelled > 0 {
                println!("cancelled {cancelled} jobs that had not begun");
            }
        }
        UserAction::List => {
            for user in store.users().await? {
                println!("{}", user.name);
            }
        }
    }
    Ok(())
}

/// A new user of an old name would see what the old one had.
async fn refuse_what_is_left(store: &dyn CatalogStore, name: &str) -> Result<()> {
    let own = own_database(name);
    let snapshots = store.current_snapshots().await?;
    let left = snapshots.iter().filter(|snapshot| snapshot.database.name.eq_ignore_ascii_case(&own));
    let tables: usize = left.map(|snapshot| snapshot.tables.len()).sum();
    let states = [JobState::Queued, JobState::Running, JobState::Finished];
    let jobs =
        store.jobs(JobFilter { user: Some(name), states: &states, limit: 1_000, ..JobFilter::default() }).await?;
    ensure!(
        tables == 0 && jobs.is_empty(),
        "an earlier {name} left {tables} tables and {} jobs, which the new one would get; choose another name, or give \
         --adopt if it is the same person",
        jobs.len()
    );
    Ok(())
}

/// A coordinator that runs skips them: each step of a job asks for the state it starts from.
async fn cancel_queued(store: &dyn CatalogStore, name: &str) -> Result<usize> {
    let queued = JobFilter { user: Some(name), states: &[JobState::Queued], limit: u32::MAX, ..JobFilter::default() };
    let at_unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as i64);
    let mut cancelled = 0;
    for job in store.jobs(queued).await? {
        cancelled += usize::from(store.step_job(&job.id, &JobStep::Cancel { at_unix_ms, chunks: 0 }).await?);
    }
    Ok(cancelled)
}

/// A password from the file, from whom sits at the terminal, or from standard input. Never from the
/// command line, which everybody on the machine can read.
fn read(name: &str, source: &PasswordSource) -> Result<String> {
    let password = match &source.password_file {
        Some(path) => first_line_of(path)?,
        None if std::io::stdin().is_terminal() => {
            let typed = rpassword::prompt_password(format!("Password for {name}: "))?;
            ensure!(typed == rpassword::prompt_password("Once more: ")?, "the two passwords differ");
            typed
        }
        None => first_line(std::io::stdin().lock()).context("cannot read the password from standard input")?,
    };
    ensure!(!password.is_empty(), "there is no password: type one, pipe one in, or give --password-file");
    Ok(password)
}

fn first_line_of(path: &Path) -> Result<String> {
    let file = std::fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    first_line(std::io::BufReader::new(file)).with_context(|| format!("cannot read {}", path.display()))
}

fn first_line(mut text: impl BufRead) -> Result<String> {
    let mut line = String::new();
    text.read_line(&mut line)?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}
