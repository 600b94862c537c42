//! Who opened a transaction, and whether that process still exists.

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Serialize};

/// The process behind a transaction. `host` names the space in which `pid` is unique: two owners with the
/// same host can see each other's processes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// The machine, and where the system tells it, its boot and its process space.
    pub host: String,
    /// The process id there.
    pub pid: u32,
    /// The program's name, for people.
    pub program: String,
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The boot and the process space tell people nothing.
        let machine = self.host.split('/').next().unwrap_or(&self.host);
        write!(f, "{} (process {} on {machine})", self.program, self.pid)
    }
}

impl Owner {
    /// This process. Where the system gives them, `host` carries the boot id and the process space, so that
    /// two containers with one host name are not taken for one machine.
    #[must_use]
    pub fn this_process(program: &str) -> Owner {
        let boot = read_line("/proc/sys/kernel/random/boot_id");
        let space = std::fs::read_link("/proc/self/ns/pid").ok().map(|link| link.to_string_lossy().into_owned());
        let host: Vec<String> = [Some(host_name()), boot, space].into_iter().flatten().collect();
        Owner { host: host.join("/"), pid: std::process::id(), program: program.to_owned() }
    }

    /// Whether the process is known to be gone, as seen by `opener`. False where it cannot be known: on another
    /// host, or when the system does not answer. A process id that was given to another process counts as alive;
    /// then the heartbeat decides.
    pub(crate) async fn is_gone(&self, opener: &Owner) -> bool {
        if self.host != opener.host {
            return false;
        }
        if Path::new("/proc/self").exists() {
            return !Path::new("/proc").join(self.pid.to_string()).exists();
        }
        // Systems without /proc: `ps -p` answers 1 when there is no such process.
        let answer = tokio::process::Command::new("ps").arg("-p").arg(self.pid.to_string()).output().await;
        answer.is_ok_and(|output| output.status.code() == Some(1))
    }
}

fn host_name() -> String {
    let asked = || {
        let output = std::process::Command::new("uname").arg("-n").output().ok()?;
        String::from_utf8(output.stdout).ok().map(|name| name.trim().to_owned()).filter(|name| !name.is_empty())
    };
    read_line("/proc/sys/kernel/hostname").or_else(asked).unwrap_or_else(|| "localhost".to_owned())
}

fn read_line(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}
