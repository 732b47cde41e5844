//! The accepting end: listeners of both families, and the server's half of the TLS handshake.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::ServerConfig;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, UnixListener};
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;

use super::cause::{self, Own};
use super::link::{Link, Socket};
use super::{Fault, Target};
use crate::outcome::Phase;
use crate::outcome::evidence::Side;

/// The longest path of a unix socket, in bytes (`sun_path` of Linux holds 108 with its NUL).
const UNIX_PATH_MAX: usize = 107;

/// How long a refused client may take to read why. Closing with unread bytes in the receive buffer
/// resets the connection, and some clients lose the alert to that.
const LINGER: Duration = Duration::from_millis(200);

/// A bound socket. Dropping it removes a unix socket's file.
#[derive(Debug)]
pub struct Listener {
    socket: Bound,
    target: Target,
}

#[derive(Debug)]
enum Bound {
    Tcp(TcpListener),
    Unix(UnixListener, #[expect(dead_code, reason = "held for its drop")] SocketFile),
}

#[derive(Debug)]
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Listener {
    /// Binds a TCP address; port 0 means any.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        let socket = TcpListener::bind(address).await?;
        let target = Target::Tcp(socket.local_addr()?);
        Ok(Self { socket: Bound::Tcp(socket), target })
    }

    /// Binds the first free port of a range, as go-plugin servers do with `PLUGIN_MIN_PORT` and
    /// `PLUGIN_MAX_PORT`.
    ///
    /// # Errors
    /// The last port's error, naming the range.
    pub async fn tcp_in_range(host: IpAddr, min: u16, max: u16) -> io::Result<Self> {
        let mut last = io::Error::from(io::ErrorKind::AddrInUse);
        for port in min..=max {
            match Self::tcp(SocketAddr::new(host, port)).await {
                Ok(listener) => return Ok(listener),
                Err(error) => last = error,
            }
        }
        Err(io::Error::new(last.kind(), format!("no free port from {min} to {max} on {host}: {last}")))
    }

    /// Binds a unix socket.
    ///
    /// # Errors
    /// The operating system's, and a path longer than a socket's address holds.
    pub fn unix(path: &Path) -> io::Result<Self> {
        let length = path.as_os_str().len();
        if length > UNIX_PATH_MAX {
            let text = format!(
                "the socket path `{}` has {length} bytes and at most {UNIX_PATH_MAX} fit; use a shorter folder",
                path.display()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let socket = UnixListener::bind(path)?;
        let target = Target::Unix(path.to_owned());
        Ok(Self { socket: Bound::Unix(socket, SocketFile(path.to_owned())), target })
    }

    /// Where it listens, with the port that it got.
    #[must_use]
    pub fn target(&self) -> &Target {
        &self.target
    }

    /// The next connection, with `TCP_NODELAY` set. Safe to drop while waiting.
    ///
    /// # Errors
    /// The operating system's; the listener stays usable.
    pub async fn accept(&self) -> io::Result<Socket> {
        match &self.socket {
            Bound::Tcp(socket) => {
                let (stream, _) = socket.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Bound::Unix(socket, _) => Ok(Socket::Unix(socket.accept().await?.0)),
        }
    }
}

/// The server's half of the handshake on an accepted socket; without a config it is plaintext.
///
/// # Errors
/// A [`Fault`] that names the cause. The client was told by an alert before this returns.
pub async fn secure(socket: Socket, config: Option<Arc<ServerConfig>>, within: Duration) -> Result<Link, Fault> {
    let Some(config) = config else { return Ok(Link::plain(socket, Side::Server)) };
    let own = Own { side: Side::Server, certificate: true };
    match timeout(within, TlsAcceptor::from(config).accept(socket).into_fallible()).await {
        Ok(Ok(stream)) => Ok(Link::tls(stream.into(), own)),
        Ok(Err((error, socket))) => {
            tokio::spawn(linger(socket));
            Err(cause::stream(&error, own, Phase::Tls))
        }
        Err(_) => {
            let text = format!("the client did not complete the TLS handshake within {within:?}");
            Err(Fault::new(Phase::Tls, "tls.timeout", text).timed_out())
        }
    }
}

async fn linger(mut socket: Socket) {
    let drain = async {
        let _ = socket.shutdown().await;
        let mut scratch = [0_u8; 4096];
        while matches!(socket.read(&mut scratch).await, Ok(read) if read > 0) {}
    };
    let _ = timeout(LINGER, drain).await;
}
