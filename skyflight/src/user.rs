//! `skyflight user`: those who may log in. Works on the catalog, with or without a running server.

use std::io::{BufRead, IsTerminal};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use skyflight_catalog::check_user_name;
use skyflight_server::hash_password;

use crate::cli::{PasswordSource, UserAction, UserArgs};
use crate::config::Config;
use crate::node::Home;

pub(crate) async fn run(args: UserArgs, config: Config) -> Result<()> {
    let store = Home::open(&args.data_dir, &config).await?.store;
    match args.action {
        UserAction::Add { name, password } => {
            // Before anybody types a password in vain.
            check_user_name(&name)?;
            store.add_user(&name, &hash_password(&read(&name, &password)?)?).await?;
            println!("added {name}");
        }
        UserAction::Password { name, password } => {
            store.set_password(&name, &hash_password(&read(&name, &password)?)?).await?;
            println!("changed the password of {name}");
        }
        UserAction::Remove { name } => {
            store.remove_user(&name).await?;
            println!("removed {name}");
        }
        UserAction::List => {
            for user in store.users().await? {
                println!("{}", user.name);
            }
        }
    }
    Ok(())
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
