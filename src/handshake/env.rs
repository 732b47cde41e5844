//! The environment that a host gives a plugin, written and read.

use std::path::PathBuf;

/// The magic cookie: not a secret, only a sign that a host and not a person started the plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cookie {
    /// Name of the variable.
    pub key: String,
    /// Its value.
    pub value: String,
}

impl Cookie {
    /// `BASIC_PLUGIN=hello`, of go-plugin's examples and every KV peer.
    #[must_use]
    pub fn basic() -> Self {
        Self { key: "BASIC_PLUGIN".to_owned(), value: "hello".to_owned() }
    }
}

/// What a host tells a plugin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostEnv {
    /// The cookie.
    pub cookie: Cookie,
    /// Application protocol versions that the host speaks.
    pub protocol_versions: Vec<u32>,
    /// Lowest and highest TCP port.
    pub ports: (u16, u16),
    /// PEM of the client's certificate: this is what switches `AutoMTLS` on.
    pub client_cert: Option<String>,
    /// Where the plugin is to put its socket.
    pub socket_dir: Option<PathBuf>,
}

impl HostEnv {
    /// As variables.
    #[must_use]
    pub fn vars(&self) -> Vec<(String, String)> {
        let versions: Vec<String> = self.protocol_versions.iter().map(u32::to_string).collect();
        let mut vars = vec![
            (self.cookie.key.clone(), self.cookie.value.clone()),
            ("PLUGIN_MIN_PORT".to_owned(), self.ports.0.to_string()),
            ("PLUGIN_MAX_PORT".to_owned(), self.ports.1.to_string()),
            ("PLUGIN_PROTOCOL_VERSIONS".to_owned(), versions.join(",")),
        ];
        if let Some(pem) = &self.client_cert {
            vars.push(("PLUGIN_CLIENT_CERT".to_owned(), pem.clone()));
        }
        if let Some(folder) = &self.socket_dir {
            vars.push(("PLUGIN_UNIX_SOCKET_DIR".to_owned(), folder.display().to_string()));
        }
        vars
    }
}

/// What a plugin was told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PluginEnv {
    /// Application protocol versions that the host speaks; empty when it did not say.
    pub protocol_versions: Vec<u32>,
    /// Lowest and highest TCP port.
    pub ports: Option<(u16, u16)>,
    /// PEM of the client's certificate.
    pub client_cert: Option<String>,
    /// Where to put the socket.
    pub socket_dir: Option<PathBuf>,
    /// `PLUGIN_MULTIPLEX_GRPC` was set, to whatever: field 7 is due.
    pub multiplex_asked: bool,
}

/// Why a plugin cannot go on with its environment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EnvProblem {
    /// The cookie is missing or another one. Its text is the three lines that the user gets.
    #[error(
        "this program is a plugin and is not meant to be run by hand\n\
         its host sets the magic cookie {key}, which is {found} here\n\
         use a go-plugin host, or `soupscen serve kv --address 127.0.0.1:0` for a server to dial"
    )]
    Cookie {
        /// Name of the variable.
        key: String,
        /// `missing`, or what it is.
        found: String,
    },
    /// A port that is none, or a range upside down.
    #[error(
        "{name} is `{value}`, which is no port; ports are 0 to 65535 and PLUGIN_MIN_PORT may not be the larger one"
    )]
    Port {
        /// Name of the variable.
        name: &'static str,
        /// Its value.
        value: String,
    },
}

impl PluginEnv {
    /// Whether anything but a cookie says that a go-plugin host started this program.
    #[must_use]
    pub fn suggests_launch(lookup: &dyn Fn(&str) -> Option<String>) -> bool {
        ["PLUGIN_PROTOCOL_VERSIONS", "PLUGIN_MIN_PORT", "PLUGIN_MAX_PORT", "PLUGIN_CLIENT_CERT"]
            .iter()
            .any(|name| lookup(name).is_some())
    }

    /// Reads the environment through `lookup`. As in Go, an empty variable counts as unset, and a
    /// version that is no number is passed over.
    ///
    /// # Errors
    /// A wrong cookie, or ports that are none.
    pub fn read(cookie: &Cookie, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Self, EnvProblem> {
        let found = lookup(&cookie.key);
        if found.as_deref() != Some(cookie.value.as_str()) {
            let found = found.map_or_else(|| "missing".to_owned(), |value| format!("`{value}`"));
            return Err(EnvProblem::Cookie { key: cookie.key.clone(), found });
        }
        let get = |name: &str| lookup(name).filter(|value| !value.is_empty());
        let port = |name: &'static str| match get(name) {
            None => Ok(None),
            Some(value) => match value.parse::<u16>() {
                Ok(port) => Ok(Some(port)),
                Err(_) => Err(EnvProblem::Port { name, value }),
            },
        };
        let ports = match (port("PLUGIN_MIN_PORT")?, port("PLUGIN_MAX_PORT")?) {
            (None, None) => None,
            (min, max) => Some((min.unwrap_or(0), max.unwrap_or(u16::MAX))),
        };
        if let Some((min, max)) = ports.filter(|(min, max)| min > max) {
            return Err(EnvProblem::Port { name: "PLUGIN_MIN_PORT", value: format!("{min}` above `{max}") });
        }
        Ok(Self {
            protocol_versions: get("PLUGIN_PROTOCOL_VERSIONS")
                .map(|list| list.split(',').filter_map(|version| version.trim().parse().ok()).collect())
                .unwrap_or_default(),
            ports,
            client_cert: get("PLUGIN_CLIENT_CERT"),
            socket_dir: get("PLUGIN_UNIX_SOCKET_DIR").map(PathBuf::from),
            multiplex_asked: get("PLUGIN_MULTIPLEX_GRPC").is_some(),
        })
    }
}

/// The version that a plugin announces: the highest that both speak, or, with none in common, its
/// own lowest, as Go's does: rejecting is then the host's part. `None` only for a plugin without any.
#[must_use]
pub fn choose_version(host: &[u32], plugin: &[u32]) -> Option<u32> {
    let common = plugin.iter().filter(|version| host.contains(version)).max();
    common.or_else(|| plugin.iter().min()).copied()
}
