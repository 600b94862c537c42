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

use crate::session::{Credentials, Sessions, credentials_of};

/// A service behind a door that `sessions` keep; wide open where everybody may ask.
#[derive(Clone)]
pub(crate) struct Door<S> {
    sessions: Arc<Sessions>,
    inner: S,
}

impl<S> Door<S> {
    pub(crate) fn new(sessions: Arc<Sessions>, inner: S) -> Door<S> {
        Door { sessions, inner }
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
        Box::pin(async move {
            let from = peer(&request);
            let mut headers = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
            match admit(&sessions, &mut headers, from).await {
                Ok(()) => {
                    *request.headers_mut() = headers.into_headers();
                    inner.call(request).await
                }
                Err(status) => Ok(status.into_http()),
            }
        })
    }
}

/// Lets pass who says nothing: Handshake may say it in its message, a worker has a ticket, and
/// everything else is refused behind the door.
async fn admit(sessions: &Sessions, headers: &mut MetadataMap, from: Option<IpAddr>) -> Result<(), Status> {
    let Some(auth) = sessions.auth() else { return Ok(()) };
    match credentials_of(headers)? {
        Credentials::None => Ok(()),
        Credentials::Basic { user, password } => {
            let caller = sessions.of_login(auth.log_in(&user, password.text(), from).await?);
            let bearer = sessions.bearer(&sessions.token(&caller)?)?;
            headers.insert("authorization", bearer);
            Ok(())
        }
        Credentials::Token(text) => {
            let caller = sessions.of_token(&text)?;
            auth.still(&caller.user, caller.login).await
        }
        Credentials::Foreign => Err(Status::unauthenticated("this is not a token of this server; log in again")),
    }
}

fn peer(request: &http::Request<Body>) -> Option<IpAddr> {
    request.extensions().get::<TcpConnectInfo>().and_then(TcpConnectInfo::remote_addr).map(|address| address.ip())
}
