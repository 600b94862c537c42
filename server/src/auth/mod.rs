//! Who may ask at all: users with passwords in the catalog.
//!
//! The [`Door`] stands before the Flight service. It turns a user and password into a session token,
//! and sees that the user of a token is still one, so that behind it there are tokens only. What a
//! password check costs (it is slow on purpose) is bounded by [`Passwords`], and what guessing gains
//! by [`Throttle`].

mod door;
mod hash;
mod passwords;
mod throttle;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use moka::future::Cache;
use skyflight_catalog::{CatalogStore, User, check_user_name};
use skyflight_engine::EngineError;
use tonic::Status;

use crate::error::status_of;
use crate::figures;
pub(crate) use door::Door;
pub use hash::{PasswordError, hash_password};
use passwords::Passwords;
use throttle::Throttle;

/// How long a user's record is believed: a removed user is out after it.
const RECORD_AGE: Duration = Duration::from_secs(2);

/// Most records that are remembered, of users and of names that are none.
const RECORDS: u64 = 10_000;

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
        if let Some(known) = record.as_deref().filter(|known| self.passwords.remembers(known, password)) {
            return Ok(login(known));
        }
        self.throttle.admit(user, from, Instant::now()).map_err(|wait| {
            Status::unauthenticated(format!(
                "too many logins of this user or from this address have failed; try again in {} s",
                wait.as_secs().max(1)
            ))
        })?;
        let found = self.passwords.check(record, password).await?;
        figures::login(found.is_some());
        match found {
            Some(known) => {
                self.throttle.succeeded(user, from);
                Ok(login(&known))
            }
            None => {
                self.throttle.failed(user, from, Instant::now());
                tracing::warn!(user = %user.escape_debug(), ?from, "login failed");
                Err(Status::unauthenticated("user or password is wrong"))
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
