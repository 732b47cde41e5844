//! Keys, certificates, the run's authority, and the verifiers for pinned certificates. L3.

/// A certificate chain with its key, as PEM and DER, perhaps also as files. The run's authority is one too.
#[derive(Debug)]
pub struct Identity {}
