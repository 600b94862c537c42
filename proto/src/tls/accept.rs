//! The server's side: connections as they come, through TLS where there is one.
//!
//! A handshake runs beside those of others and has a time limit and a bound on how many there are,
//! so that nobody keeps the door shut by standing in it.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{Stream, StreamExt};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::transport::server::{Connected, TcpConnectInfo};

use super::NodeTls;

/// How long a handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes at a time; later connections wait in the listener's queue.
const HANDSHAKES: usize = 1_024;
/// How long to wait where the system has no room for another connection.
const NO_ROOM: Duration = Duration::from_millis(100);

/// A connection that may carry requests.
#[derive(Debug)]
pub enum Connection {
    /// In clear.
    Plain(TcpStream),
    /// Through TLS.
    Tls(Box<TlsStream<TcpStream>>),
}

/// The connections that come to `listener`, without delay for small messages. With `tls` only those
/// whose handshake has succeeded. Never ends and never fails.
pub fn incoming(
    listener: TcpListener,
    tls: Option<Arc<NodeTls>>,
) -> impl Stream<Item = io::Result<Connection>> + Send + 'static {
    let door = Door { listener, tls, handshakes: FuturesUnordered::new() };
    futures::stream::unfold(door, |mut door| async move {
        let connection = door.next().await;
        Some((Ok(connection), door))
    })
}

type Handshake = Pin<Box<dyn Future<Output = Option<Connection>> + Send>>;

struct Door {
    listener: TcpListener,
    tls: Option<Arc<NodeTls>>,
    handshakes: FuturesUnordered<Handshake>,
}

impl Door {
    async fn next(&mut self) -> Connection {
        loop {
            tokio::select! {
                accepted = self.listener.accept(), if self.handshakes.len() < HANDSHAKES => match accepted {
                    Ok((connection, _)) => {
                        // Without nodelay a tiny answer waits 40 ms for an acknowledgement.
                        if let Err(error) = connection.set_nodelay(true) {
                            tracing::debug!(%error, "a connection was gone at once");
                            continue;
                        }
                        match &self.tls {
                            None => return Connection::Plain(connection),
                            Some(tls) => self.handshakes.push(Box::pin(handshake(Arc::clone(tls), connection))),
                        }
                    }
                    Err(error) => {
                        tracing::warn!(%error, "a connection cannot be accepted");
                        tokio::time::sleep(NO_ROOM).await;
                    }
                },
                Some(done) = self.handshakes.next(), if !self.handshakes.is_empty() => {
                    if let Some(connection) = done {
                        return connection;
                    }
                }
            }
        }
    }
}

async fn handshake(tls: Arc<NodeTls>, connection: TcpStream) -> Option<Connection> {
    let peer = connection.peer_addr().ok();
    let acceptor = TlsAcceptor::from(tls.server());
    match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(connection)).await {
        Ok(Ok(stream)) => Some(Connection::Tls(Box::new(stream))),
        Ok(Err(error)) => {
            tracing::info!(?peer, %error, "a TLS handshake failed");
            None
        }
        Err(_elapsed) => {
            tracing::info!(?peer, seconds = HANDSHAKE_TIMEOUT.as_secs(), "a TLS handshake took too long");
            None
        }
    }
}

impl Connected for Connection {
    type ConnectInfo = TcpConnectInfo;

    fn connect_info(&self) -> TcpConnectInfo {
        match self {
            Connection::Plain(connection) => connection.connect_info(),
            Connection::Tls(connection) => connection.get_ref().0.connect_info(),
        }
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Connection::Plain(connection) => Pin::new(connection).poll_read(cx, buffer),
            Connection::Tls(connection) => Pin::new(connection.as_mut()).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut *self {
            Connection::Plain(connection) => Pin::new(connection).poll_write(cx, bytes),
            Connection::Tls(connection) => Pin::new(connection.as_mut()).poll_write(cx, bytes),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Connection::Plain(connection) => Pin::new(connection).poll_flush(cx),
            Connection::Tls(connection) => Pin::new(connection.as_mut()).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut *self {
            Connection::Plain(connection) => Pin::new(connection).poll_shutdown(cx),
            Connection::Tls(connection) => Pin::new(connection.as_mut()).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match &mut *self {
            Connection::Plain(connection) => Pin::new(connection).poll_write_vectored(cx, pieces),
            Connection::Tls(connection) => Pin::new(connection.as_mut()).poll_write_vectored(cx, pieces),
        }
    }

    fn is_write_vectored(&self) -> bool {
        match self {
            Connection::Plain(connection) => connection.is_write_vectored(),
            Connection::Tls(connection) => connection.is_write_vectored(),
        }
    }
}
