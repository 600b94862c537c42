//! The door of the Flight service: passwords become tokens here, and tokens of those who are no
//! users any more end here.

use std::convert::Infallible;
use std::future::Future;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{Service, http};
use tonic::metadata::MetadataMap;
use tonic::server::NamedService;
use tonic::transport::server::TcpConnectInfo;

use super::strangers::{PATIENCE, Strangers, may_say_nothing};
use super::who_are_you;
use crate::session::{Credentials, Sessions, credentials_of};

/// A service behind a door that `sessions` keep; wide open where everybody may ask.
#[derive(Clone)]
pub(crate) struct Door<S> {
    sessions: Arc<Sessions>,
    inner: S,
    /// The same for strangers: it takes small messages only, and is always ready.
    outer: S,
    strangers: Strangers,
}

impl<S> Door<S> {
    /// `outer` is `inner` with messages of at most [`MESSAGE_BYTES`](super::MESSAGE_BYTES).
    pub(crate) fn new(sessions: Arc<Sessions>, inner: S, outer: S) -> Door<S> {
        Door { sessions, inner, outer, strangers: Strangers::default() }
    }
}

impl<S: NamedService> NamedService for Door<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Door<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that was polled ready is the one to be called.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let sessions = Arc::clone(&self.sessions);
        let (mut outer, strangers) = (self.outer.clone(), self.strangers.clone());
        Box::pin(async move {
            let from = peer(&request);
            let mut headers = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
            let admitted = admit(&sessions, &mut headers, from).await;
            *request.headers_mut() = headers.into_headers();
            match admitted {
                Ok(Admitted::Known) => inner.call(request).await,
                Ok(Admitted::Stranger) if !may_say_nothing(request.uri().path()) => Ok(who_are_you().into_http()),
                Ok(Admitted::Stranger) => {
                    let Some(_stranger) = strangers.enter(from) else {
                        return Ok(Status::resource_exhausted(
                            "too many calls without credentials at once; try again in a few seconds",
                        )
                        .into_http());
                    };
                    match tokio::time::timeout(PATIENCE, outer.call(request)).await {
                        Ok(answer) => answer,
                        Err(_) => Ok(Status::deadline_exceeded(format!(
                            "a call without credentials has {} s",
                            PATIENCE.as_secs()
                        ))
                        .into_http()),
                    }
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// Who stands at the door.
enum Admitted {
    /// One whose credentials are good, or anybody where everybody may ask.
    Known,
    /// One who says nothing.
    Stranger,
}

async fn admit(sessions: &Sessions, headers: &mut MetadataMap, from: Option<IpAddr>) -> Result<Admitted, Status> {
    let Some(auth) = sessions.auth() else { return Ok(Admitted::Known) };
    match credentials_of(headers)? {
        Credentials::None => Ok(Admitted::Stranger),
        Credentials::Basic { user, password } => {
            let caller = sessions.of_login(auth.log_in(&user, password.text(), from).await?);
            let bearer = sessions.bearer(&sessions.token(&caller)?)?;
            headers.insert("authorization", bearer);
            Ok(Admitted::Known)
        }
        Credentials::Token(text) => {
            let caller = sessions.of_token(&text)?;
            auth.still(&caller.user, caller.login).await.map(|()| Admitted::Known)
        }
        Credentials::Foreign => Err(Status::unauthenticated("this is not a token of this server; log in again")),
    }
}

fn peer(request: &http::Request<Body>) -> Option<IpAddr> {
    request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr).map(|address| address.ip())
}
