//! Who may ask at all: users with passwords in the catalog.
//!
//! The [`Door`] stands before the Flight service. It turns a user and password into a session token,
//! and sees that the user of a token is still one, so that behind it there are tokens only. Of those who
//! say nothing it lets few through (`strangers`). What a
//! password check costs (it is slow on purpose) is bounded by [`Passwords`], and what guessing gains
//! by [`Throttle`].

mod door;
mod hash;
mod passwords;
mod strangers;
mod throttle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use skyflight_catalog::{CatalogStore, User, check_user_name};
use skyflight_engine::EngineError;
use tonic::{Code, Status};

use crate::error::status_of;
use crate::figures;
pub(crate) use door::Door;
pub use hash::{PasswordError, hash_password};
use passwords::{Attempt, Passwords};
pub(crate) use strangers::MESSAGE_BYTES;
use throttle::Throttle;

/// How long a user's record is believed: a removed user is out after it.
const RECORD_AGE: Duration = Duration::from_secs(2);

/// Most records that are remembered, of users and of names that are none.
const RECORDS: u64 = 10_000;

/// Characters of a name that are logged when a login fails.
const LOGGED_CHARS: usize = 64;

/// Who may use a coordinator.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AuthMode {
    /// Whoever reaches the port, as any user.
    #[default]
    Open,
    /// The users in the catalog.
    Users,
}

/// The words for [`AuthMode`] in a configuration.
impl std::str::FromStr for AuthMode {
    type Err = String;

    fn from_str(word: &str) -> Result<AuthMode, String> {
        match word {
            "none" => Ok(AuthMode::Open),
            "users" => Ok(AuthMode::Users),
            _ => Err(format!("\"{word}\" is neither \"none\" nor \"users\"")),
        }
    }
}

/// One who has logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Login {
    /// The name as it was declared.
    pub(crate) user: String,
    /// When the password was set (milliseconds since 1970-01-01 UTC): another one ends what this began.
    pub(crate) password_unix_ms: i64,
}

/// Knows the users.
#[derive(Debug)]
pub(crate) struct Auth {
    store: Arc<dyn CatalogStore>,
    /// By lower-case name; `None` where there is no such user.
    records: Cache<String, Option<Arc<User>>>,
    passwords: Passwords,
    throttle: Throttle,
}

impl Auth {
    pub(crate) fn new(store: Arc<dyn CatalogStore>) -> Auth {
        let records = Cache::builder().max_capacity(RECORDS).time_to_live(RECORD_AGE).build();
        Auth { store, records, passwords: Passwords::new(), throttle: Throttle::new() }
    }

    /// The user whose password this is. `from` is the caller's address, where it is known.
    ///
    /// Errors: `Unauthenticated`, the same for an unknown user and for a wrong password, and while
    /// too many attempts have failed; `ResourceExhausted` when too many log in at once.
    pub(crate) async fn log_in(&self, user: &str, password: &str, from: Option<IpAddr>) -> Result<Login, Status> {
        if user.is_empty() && password.is_empty() {
            return Err(who_are_you());
        }
        let record = self.record(user).await?;
        let mut guessed = false;
        let admit = || {
            guessed = true;
            self.throttle.admit(user, from, Instant::now()).map_err(|wait| {
                Status::unauthenticated(format!(
                    "too many logins of this user or from this address have failed; try again in {} s",
                    wait.as_secs().max(1)
                ))
            })
        };
        let attempt = Attempt { known: record.as_deref(), user, password, from };
        let checked = self.passwords.check(attempt, admit).await;
        if guessed {
            figures::login(checked.is_ok());
        }
        match (checked, record) {
            (Ok(()), Some(known)) => {
                if guessed {
                    self.throttle.succeeded(user, from);
                }
                Ok(login(&known))
            }
            // Nobody's password is never right.
            (Ok(()), None) => Err(who_are_you()),
            (Err(status), _) if status.code() != Code::Unauthenticated => {
                if guessed {
                    self.throttle.unanswered(user, from);
                }
                Err(status)
            }
            (Err(status), _) => {
                if guessed {
                    // As long as a name can be, with room for one that is none.
                    let user: String = user.chars().take(LOGGED_CHARS).flat_map(char::escape_debug).collect();
                    tracing::warn!(user, ?from, why = status.message(), "login failed");
                }
                Err(status)
            }
        }
    }

    /// Whether what a user began with the password set at `password_unix_ms` still holds.
    ///
    /// Errors: `Unauthenticated` when the user is gone or has another password.
    pub(crate) async fn still(&self, user: &str, password_unix_ms: Option<i64>) -> Result<(), Status> {
        match self.record(user).await? {
            Some(known) if Some(known.password_unix_ms) == password_unix_ms => Ok(()),
            _ => Err(Status::unauthenticated(
                "this token has ended: its user has another password or is gone; log in again",
            )),
        }
    }

    async fn record(&self, user: &str) -> Result<Option<Arc<User>>, Status> {
        if check_user_name(user).is_err() {
            return Ok(None);
        }
        let load = async { self.store.user(user).await.map(|found| found.map(Arc::new)) };
        self.records
            .try_get_with(user.to_ascii_lowercase(), load)
            .await
            .map_err(|error| status_of(&EngineError::Catalog(error.as_ref().clone()), None))
    }
}

fn login(user: &User) -> Login {
    Login { user: user.name.clone(), password_unix_ms: user.password_unix_ms }
}

/// The answer to a request that says nothing of its caller.
pub(crate) fn who_are_you() -> Status {
    Status::unauthenticated(
        "this server wants to know who asks: give user and password (Basic) or a token (Bearer); \
         users are added with `skyflight user add NAME`",
    )
}
