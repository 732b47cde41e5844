//! The two socket families behind one face: addresses, listening, dialling, streams that are read
//! and written through a shared reference (so that both directions can run in one task).

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};

use crate::axis::values::Transport;

/// Bytes of a unix socket path on Linux, without the closing zero (unix(7)).
const MAX_PATH: usize = 107;

/// Where something listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Endpoint {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A unix stream socket.
    Unix(PathBuf),
}

impl Endpoint {
    /// Its family.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        match self {
            Self::Tcp(_) => Transport::Tcp,
            Self::Unix(_) => Transport::Unix,
        }
    }
}

impl std::fmt::Display for Endpoint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

/// A listening socket; its file goes when it does.
#[derive(Debug)]
pub(super) enum Listener {
    Tcp(TcpListener),
    Unix { listener: UnixListener, path: PathBuf },
}

impl Listener {
    /// Listens on a free loopback port, or on a socket with a short name in `folder`.
    pub(super) async fn bind(transport: Transport, folder: &Path) -> io::Result<Self> {
        match transport {
            Transport::Tcp => TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map(Self::Tcp),
            Transport::Unix => {
                static NEXT: AtomicU32 = AtomicU32::new(0);
                let path = folder.join(format!("r{:x}", NEXT.fetch_add(1, Ordering::Relaxed)));
                let length = path.as_os_str().len();
                if length > MAX_PATH {
                    let text = format!(
                        "the relay's socket {} would have a path of {length} bytes and a unix socket holds {MAX_PATH}: \
                         choose a shorter folder for the run",
                        path.display()
                    );
                    return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
                }
                Ok(Self::Unix { listener: UnixListener::bind(&path)?, path })
            }
        }
    }

    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        match self {
            Self::Tcp(listener) => listener.local_addr().map(Endpoint::Tcp),
            Self::Unix { path, .. } => Ok(Endpoint::Unix(path.clone())),
        }
    }

    pub(super) async fn accept(&self) -> io::Result<Socket> {
        match self {
            Self::Tcp(listener) => {
                let (stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                Ok(Socket::Tcp(stream))
            }
            Self::Unix { listener, .. } => listener.accept().await.map(|(stream, _)| Socket::Unix(stream)),
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        if let Self::Unix { path, .. } = self {
            // The folder may be gone already, which is as good.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A loopback port that is taken and refuses connections: bound, and not listening.
#[derive(Debug)]
pub(super) struct Reserved(socket2::Socket);

impl Reserved {
    /// Takes a free port.
    pub(super) fn tcp() -> io::Result<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
        socket.set_nonblocking(true)?;
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
        Ok(Self(socket))
    }

    pub(super) fn endpoint(&self) -> io::Result<Endpoint> {
        let address = self.0.local_addr()?.as_socket();
        address.map(Endpoint::Tcp).ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
    }

    /// Takes connections from now on.
    pub(super) fn listen(self) -> io::Result<Listener> {
        self.0.listen(128)?;
        TcpListener::from_std(self.0.into()).map(Listener::Tcp)
    }
}

/// A connected stream.
#[derive(Debug)]
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Socket {
    /// How long to stay away from a unix listener whose backlog is full: there is no event for it.
    const BACKLOG_PAUSE: Duration = Duration::from_millis(2);

    pub(super) async fn dial(target: &Endpoint) -> io::Result<Self> {
        match target {
            Endpoint::Tcp(address) => {
                let stream = TcpStream::connect(address).await?;
                stream.set_nodelay(true)?;
                Ok(Self::Tcp(stream))
            }
            Endpoint::Unix(path) => loop {
                match UnixStream::connect(path).await {
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                        tokio::time::sleep(Self::BACKLOG_PAUSE).await;
                    }
                    other => break other.map(Self::Unix),
                }
            },
        }
    }

    pub(super) async fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            let result = match self {
                Self::Tcp(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
                Self::Unix(stream) => {
                    stream.readable().await?;
                    stream.try_read(buffer)
                }
            };
            match result {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
        }
    }

    pub(super) async fn write_all(&self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let result = match self {
                Self::Tcp(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
                Self::Unix(stream) => {
                    stream.writable().await?;
                    stream.try_write(bytes)
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => bytes = &bytes[n..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Passes an end of stream on; the other direction stays open.
    pub(super) fn end_writing(&self) {
        // A socket that is no longer connected has been told already.
        let _ = self.raw().shutdown(Shutdown::Write);
    }

    /// Makes the coming close a reset. A unix socket has no such thing; its peer sees an end.
    pub(super) fn close_with_reset(&self) {
        if let Self::Tcp(_) = self {
            // Failing means that it is closed in order instead, which is the best that is left.
            let _ = self.raw().set_linger(Some(Duration::ZERO));
        }
    }

    fn raw(&self) -> SockRef<'_> {
        match self {
            Self::Tcp(stream) => SockRef::from(stream),
            Self::Unix(stream) => SockRef::from(stream),
        }
    }
}
