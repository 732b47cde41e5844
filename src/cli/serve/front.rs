//! The address that was asked for, in front of a server that chose its own: bytes are passed on as
//! they are, so TLS is between the client and the server.

use std::io;
use std::time::Duration;

use tokio::net::{TcpStream, UnixStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

use crate::transport::{Listener, Socket, Target};

/// Pause after a failed accept (out of file descriptors): there is no event for it.
const ACCEPT_PAUSE: Duration = Duration::from_millis(10);
/// What the server has to accept.
const DIAL: Duration = Duration::from_secs(5);

/// A front that listens; dropped, it ends with all its connections.
pub(super) struct Front {
    _task: AbortOnDropHandle<()>,
}

/// Listens where it was asked.
pub(super) async fn listen(address: &Target) -> io::Result<Listener> {
    match address {
        Target::Tcp(address) => Listener::tcp(*address).await,
        Target::Unix(path) => Listener::unix(path),
    }
}

impl Front {
    /// Passes every connection on to `target`.
    pub(super) fn start(listener: Listener, target: Target) -> Self {
        Self { _task: AbortOnDropHandle::new(tokio::spawn(accept(listener, target))) }
    }
}

async fn accept(listener: Listener, target: Target) {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(client) => {
                    connections.spawn(pass(client, target.clone()));
                }
                Err(_) => tokio::time::sleep(ACCEPT_PAUSE).await,
            },
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn pass(mut client: Socket, target: Target) {
    // A server that does not accept is as one that is not there: the client's connection ends.
    let Ok(Ok(mut server)) = tokio::time::timeout(DIAL, dial(&target)).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
}

async fn dial(target: &Target) -> io::Result<Socket> {
    match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        Target::Unix(path) => UnixStream::connect(path).await.map(Socket::Unix),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    #[tokio::test]
    async fn bytes_go_both_ways_and_ends_are_passed_on() {
        let any = Target::Tcp(([127, 0, 0, 1], 0).into());
        let server = listen(&any).await.unwrap();
        let front = listen(&any).await.unwrap();
        let address = front.target().clone();
        let _front = Front::start(front, server.target().clone());
        let echo = tokio::spawn(async move {
            let mut socket = server.accept().await.unwrap();
            let mut text = Vec::new();
            socket.read_to_end(&mut text).await.unwrap();
            socket.write_all(&text).await.unwrap();
        });
        let mut client = dial(&address).await.unwrap();
        client.write_all(b"hello").await.unwrap();
        client.shutdown().await.unwrap();
        let mut back = String::new();
        client.read_to_string(&mut back).await.unwrap();
        assert_eq!(back, "hello");
        echo.await.unwrap();
    }
}
