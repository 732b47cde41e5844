//! The dialling end: socket, then TLS, each with its own faults, within one deadline.

use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::net::{TcpStream, UnixStream};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::TlsConnector;

use super::cause::{self, Own};
use super::link::{Link, Socket};
use super::{Fault, Target, TlsSpec, client_config};
use crate::outcome::Phase;
use crate::outcome::evidence::Side;

/// Connects to `target` and completes the TLS handshake that `spec` asks for.
///
/// # Errors
/// A [`Fault`] that names phase and cause; `within` counts for all of it.
pub async fn dial(target: &Target, spec: &TlsSpec, within: Duration) -> Result<Link, Fault> {
    let deadline = Instant::now() + within;
    let config = client_config(spec)?;
    let socket = match timeout_at(deadline, socket(target)).await {
        Ok(Ok(socket)) => socket,
        Ok(Err(error)) => return Err(cause::connect(&error, target)),
        Err(_) => {
            let text = format!("no connection to {target} within {within:?}");
            return Err(Fault::new(Phase::Connect, "connect.timeout", text).timed_out());
        }
    };
    let Some(config) = config else { return Ok(Link::plain(socket, Side::Client)) };
    let name = ServerName::try_from(spec.server_name.clone()).map_err(|_| {
        Fault::new(Phase::Tls, "tls.setup", format!("`{}` is no name that a certificate can be for", spec.server_name))
    })?;
    let own = Own { side: Side::Client, certificate: config.client_auth_cert_resolver.has_certs() };
    match timeout_at(deadline, TlsConnector::from(config).connect(name, socket)).await {
        Ok(Ok(stream)) => Ok(Link::tls(stream.into(), own)),
        Ok(Err(error)) => Err(cause::stream(&error, own, Phase::Tls)),
        Err(_) => {
            let text = format!("the server at {target} did not complete the TLS handshake within {within:?}");
            Err(Fault::new(Phase::Tls, "tls.timeout", text).timed_out())
        }
    }
}

async fn socket(target: &Target) -> std::io::Result<Socket> {
    match target {
        Target::Tcp(address) => {
            let stream = TcpStream::connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(Socket::Tcp(stream))
        }
        Target::Unix(path) => Ok(Socket::Unix(UnixStream::connect(path).await?)),
    }
}
