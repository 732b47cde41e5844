//! What can be wrong with keys and certificates.

use std::path::PathBuf;

/// A problem with a key, a certificate, or a file that should hold one.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The file could not be read.
    #[error("cannot read {what} file `{}`: {error}", path.display())]
    Read {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// The file could not be written.
    #[error("cannot write `{}`: {error}", path.display())]
    Write {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// Longer than any certificate chain is.
    #[error("{what} file `{}` is {bytes} bytes long, more than the {limit} that are read; is it the right file?", path.display())]
    TooLarge {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Which file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The bound.
        limit: u64,
    },
    /// Nothing in it.
    #[error("{what} in {from} is empty")]
    Empty {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Which file or variable.
        from: String,
    },
    /// No PEM block at all.
    #[error("{what} in {from} is not PEM: no `-----BEGIN` line in it; convert DER with `openssl x509 -inform DER`")]
    NotPem {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Which file or variable.
        from: String,
    },
    /// PEM, but not of what was asked.
    #[error("no {what} in {from}: its PEM blocks are of another kind ({found})")]
    WrongKind {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Which file or variable.
        from: String,
        /// The labels that were found.
        found: String,
    },
    /// PEM of the right kind with broken contents.
    #[error("{what} in {from} is broken: {problem}")]
    Broken {
        /// `certificate`, `key` or `CA`.
        what: &'static str,
        /// Which file or variable.
        from: String,
        /// What is wrong.
        problem: String,
    },
    /// A key behind a passphrase.
    #[error("key in {from} is encrypted; decrypt it with `openssl pkey -in KEY -out PLAIN`")]
    Encrypted {
        /// Which file or variable.
        from: String,
    },
    /// Certificate and key are of different pairs.
    #[error("key in {key} does not belong to the certificate in {cert}")]
    Mismatch {
        /// Which file.
        cert: String,
        /// Which file.
        key: String,
    },
    /// A certificate that cannot be read.
    #[error("not an X.509 certificate: {problem}")]
    NotCertificate {
        /// What is wrong.
        problem: String,
    },
    /// Making a key or certificate failed.
    #[error("cannot make {what}: {problem}")]
    Make {
        /// `a p521 key`, `the authority's certificate` …
        what: String,
        /// The library's words.
        problem: String,
    },
}
