//! The authority of a run: its own root, and identities that are made once and shared.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rcgen::{Issuer, KeyPair};
use tokio::sync::OnceCell;

use super::{Identity, PkiError, keys};
use crate::axis::values::{KeyType, Mistakes};

/// Whose certificate it is; decides its extended key usage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Role {
    /// Presented by the side that accepts.
    Server,
    /// Presented by the side that dials.
    Client,
}

impl Role {
    const fn name(self) -> &'static str {
        match self {
            Self::Server => "server",
            Self::Client => "client",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Kind {
    Issued(Role),
    AutoMtls,
}

type Cell<T> = Arc<OnceCell<Arc<T>>>;

/// A certificate authority for one run. Key pairs are made once per run and key type, each on a
/// thread of its own, so that concurrent requests for different types do not wait for one another
/// and requests for the same type share one generation.
pub struct Authority {
    root: Arc<Identity>,
    issuer: Arc<Issuer<'static, KeyPair>>,
    folder: Option<PathBuf>,
    keys: Mutex<HashMap<KeyType, Cell<KeyPair>>>,
    identities: Mutex<HashMap<(Kind, KeyType), Cell<Identity>>>,
    flawed: Mutex<HashMap<(Role, KeyType, Mistakes), Cell<Identity>>>,
    /// An authority that nobody trusts.
    other: OnceCell<Arc<Issuer<'static, KeyPair>>>,
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("root", &self.root).field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl Authority {
    /// A new root. With a folder, which is created for the owner only, every identity is also
    /// written there as PEM, for peers that are other programs; remove the folder at the end.
    ///
    /// # Errors
    /// When the folder cannot be made or the root cannot be generated.
    pub fn new(folder: Option<&Path>) -> Result<Self, PkiError> {
        if let Some(folder) = folder {
            use std::os::unix::fs::DirBuilderExt as _;
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(0o700)
                .create(folder)
                .map_err(|error| PkiError::Write { path: folder.to_owned(), error })?;
        }
        let (root, issuer) = keys::root()?;
        // The root's key stays in memory: its file holds the certificate only.
        let root = Identity::from_der(root.leaf_der().to_vec())?;
        if let Some(folder) = folder {
            root.write_to(folder, "ca")?;
        }
        Ok(Self {
            root: Arc::new(root),
            issuer: Arc::new(issuer),
            folder: folder.map(Path::to_owned),
            keys: Mutex::default(),
            identities: Mutex::default(),
            flawed: Mutex::default(),
            other: OnceCell::new(),
        })
    }

    /// What both sides trust under `server` and `mutual`.
    #[must_use]
    pub fn root(&self) -> Arc<Identity> {
        Arc::clone(&self.root)
    }

    /// The run's certificate of this role and key type, signed by the root.
    ///
    /// # Errors
    /// When the key or the certificate cannot be made or written; the next request tries again.
    pub async fn issue(&self, role: Role, key: KeyType) -> Result<Arc<Identity>, PkiError> {
        self.identity(Kind::Issued(role), key).await
    }

    /// The run's self-signed certificate of this key type, made as go-plugin's `AutoMTLS` does.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub async fn auto_mtls(&self, key: KeyType) -> Result<Arc<Identity>, PkiError> {
        self.identity(Kind::AutoMtls, key).await
    }

    /// A certificate with mistakes in it, made once for each combination of them.
    ///
    /// # Errors
    /// As [`Authority::issue`].
    pub async fn flawed(&self, role: Role, key: KeyType, mistakes: &Mistakes) -> Result<Arc<Identity>, PkiError> {
        let cell = cell(&self.flawed, (role, key, mistakes.clone()));
        let identity = cell
            .get_or_try_init(|| async {
                let pair = self.pair(key).await?;
                let issuer = if mistakes.other_authority {
                    let made = || async { blocking(keys::root).await.map(|(_, issuer)| Arc::new(issuer)) };
                    Arc::clone(self.other.get_or_try_init(made).await?)
                } else {
                    Arc::clone(&self.issuer)
                };
                let wanted = mistakes.clone();
                let made = blocking(move || {
                    let beside = wanted.key_file.map(keys::generate).transpose()?;
                    keys::flawed(role, &pair, &issuer, &wanted, beside.as_ref())
                })
                .await?;
                if let Some(folder) = &self.folder {
                    let number = hex::encode(&made.digest()[..4]);
                    made.write_to(folder, &format!("{}-{key}-{number}", role.name()))?;
                }
                Ok(Arc::new(made))
            })
            .await?;
        Ok(Arc::clone(identity))
    }

    async fn identity(&self, kind: Kind, key: KeyType) -> Result<Arc<Identity>, PkiError> {
        let cell = cell(&self.identities, (kind, key));
        let identity = cell
            .get_or_try_init(|| async {
                let pair = self.pair(key).await?;
                let issuer = Arc::clone(&self.issuer);
                let made = blocking(move || match kind {
                    Kind::Issued(role) => keys::leaf(role, &pair, &issuer),
                    Kind::AutoMtls => keys::auto_mtls(&pair),
                })
                .await?;
                if let Some(folder) = &self.folder {
                    let name = match kind {
                        Kind::Issued(role) => role.name(),
                        Kind::AutoMtls => "auto",
                    };
                    made.write_to(folder, &format!("{name}-{key}"))?;
                }
                Ok(Arc::new(made))
            })
            .await?;
        Ok(Arc::clone(identity))
    }

    async fn pair(&self, key: KeyType) -> Result<Arc<KeyPair>, PkiError> {
        let cell = cell(&self.keys, key);
        let pair = cell.get_or_try_init(|| async { blocking(move || keys::generate(key)).await.map(Arc::new) }).await?;
        Ok(Arc::clone(pair))
    }

    /// Makes what a run will need, all at once, before any case's clock starts.
    ///
    /// # Errors
    /// The first one.
    pub async fn prepare(&self, wanted: impl IntoIterator<Item = (Role, KeyType)>) -> Result<(), PkiError> {
        futures::future::try_join_all(wanted.into_iter().map(|(role, key)| self.issue(role, key))).await.map(drop)
    }
}

fn cell<K: std::hash::Hash + Eq, V>(cells: &Mutex<HashMap<K, Cell<V>>>, key: K) -> Cell<V> {
    Arc::clone(cells.lock().unwrap_or_else(PoisonError::into_inner).entry(key).or_default())
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, PkiError> + Send + 'static,
) -> Result<T, PkiError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(PkiError::Make { what: "a key".to_owned(), problem: error.to_string() }),
    }
}
