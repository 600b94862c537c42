//! `skyflight key`: one step of a change of the cluster's keys. Servers follow their file.

use anyhow::Result;
use skyflight_proto::{ClusterKeys, KeyStep};

use crate::cli::{KeyAction, KeyArgs};

pub(crate) fn run(args: &KeyArgs) -> Result<()> {
    let step = match args.action {
        KeyAction::Add => Some(KeyStep::Add),
        KeyAction::Promote => Some(KeyStep::Promote),
        KeyAction::Retire => Some(KeyStep::Retire),
        KeyAction::List => None,
    };
    let keys = match step {
        Some(step) => ClusterKeys::step_file(&args.file, step)?,
        None => ClusterKeys::load(&args.file)?,
    };
    for (at, id) in keys.ids().iter().enumerate() {
        println!("{id} {}", if at == 0 { "signs" } else { "verifies" });
    }
    Ok(())
}
