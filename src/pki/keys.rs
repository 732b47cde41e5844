//! Key pairs and the certificates on them. CPU-bound: RSA-4096 takes a second and more, so callers
//! keep it off the async threads.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, RsaKeySize, SerialNumber,
};
use rustls::pki_types::CertificateDer;
use time::{Duration, OffsetDateTime};

use super::authority::Role;
use super::{Identity, PkiError, provider};
use crate::axis::values::{KeyType, Mistakes};

/// A new key pair.
pub(super) fn generate(key: KeyType) -> Result<KeyPair, PkiError> {
    match key {
        KeyType::Rsa2048 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_2048),
        KeyType::Rsa3072 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_3072),
        KeyType::Rsa4096 => KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, RsaKeySize::_4096),
        KeyType::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
        KeyType::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        KeyType::P521 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512),
        KeyType::Ed25519 => KeyPair::generate_for(&rcgen::PKCS_ED25519),
    }
    .map_err(|error| failed(&format!("a {key} key"), &error))
}

/// How a generated Ed25519 key begins: PKCS #8 version 2 (RFC 5958), its seed, its public half.
const ED25519_V2: [u8; 16] = [0x30, 0x51, 2, 1, 1, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];
/// The same in version 1 (RFC 8410 section 7), which ends with the seed.
const ED25519_V1: [u8; 16] = [0x30, 0x2e, 2, 1, 0, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 4, 0x22, 4, 0x20];

/// A key in the form that every library reads: OpenSSL 3.0 and `BoringSSL` refuse version 2 of an
/// Ed25519 key, and a peer must not fail at how its key was written down.
pub(super) fn portable(pkcs8: Vec<u8>) -> Vec<u8> {
    match pkcs8.strip_prefix(&ED25519_V2).and_then(|rest| rest.get(..32)) {
        Some(seed) => [&ED25519_V1[..], seed].concat(),
        None => pkcs8,
    }
}

fn failed(what: &str, error: &rcgen::Error) -> PkiError {
    PkiError::Make { what: what.to_owned(), problem: error.to_string() }
}

/// A random positive serial of 16 bytes. rcgen's default is derived from the key, and the run's
/// client and server certificates of one key type share theirs: issuer and serial must stay unique
/// (RFC 5280 section 4.1.2.2).
fn serial() -> Result<SerialNumber, PkiError> {
    let mut bytes = [0_u8; 16];
    provider().secure_random.fill(&mut bytes).map_err(|_| PkiError::Make {
        what: "a serial number".to_owned(),
        problem: "the system gives no randomness".to_owned(),
    })?;
    bytes[0] = (bytes[0] & 0x7f) | 0x40;
    Ok(SerialNumber::from_slice(&bytes))
}

fn params(names: &[&str]) -> Result<CertificateParams, PkiError> {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names).map_err(|error| failed("certificate names", &error))?;
    params.serial_number = Some(serial()?);
    params.distinguished_name = DistinguishedName::new();
    Ok(params)
}

/// The self-signed certificate that go-plugin's `AutoMTLS` makes (its `mtls.go`), on any key: subject
/// `O=HashiCorp, CN=localhost`, CA:TRUE, both extended key usages, −30 s to +262,980 h.
pub(super) fn auto_mtls(key: &KeyPair) -> Result<Identity, PkiError> {
    let mut params = params(&["localhost"])?;
    params.distinguished_name.push(DnType::OrganizationName, "HashiCorp");
    params.distinguished_name.push(DnType::CommonName, "localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
        KeyUsagePurpose::KeyAgreement,
        KeyUsagePurpose::KeyCertSign,
    ];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - Duration::seconds(30);
    params.not_after = now + Duration::hours(262_980);
    let cert = params.self_signed(key).map_err(|error| failed("a self-signed certificate", &error))?;
    Identity::from_generated(vec![cert.der().clone()], key)
}

/// How long certificates of a run hold: longer than any run, too short to be of use to anyone else.
const RUN_VALIDITY: Duration = Duration::days(7);
/// Clocks of containers differ a little.
const CLOCK_SKEW: Duration = Duration::hours(1);

fn root_params() -> Result<CertificateParams, PkiError> {
    let mut params = params(&[])?;
    // Unique per run: with equal names a certificate of another run would fail by its signature
    // instead of by its unknown issuer.
    let serial = params.serial_number.as_ref().map_or_else(String::new, |serial| hex::encode(serial.to_bytes()));
    let name = format!("soupscen run authority {}", serial.get(..8).unwrap_or(""));
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + RUN_VALIDITY;
    Ok(params)
}

/// A root: its identity, and what signs with it. P-256, which every peer can verify.
pub(super) fn root() -> Result<(Identity, Issuer<'static, KeyPair>), PkiError> {
    let key = generate(KeyType::P256)?;
    let params = root_params()?;
    let cert = params.self_signed(&key).map_err(|error| failed("the authority's certificate", &error))?;
    let identity = Identity::from_generated(vec![cert.der().clone()], &key)?;
    Ok((identity, Issuer::new(params, key)))
}

/// A leaf of a run: for `localhost` and both loopback addresses.
pub(super) fn leaf(role: Role, key: &KeyPair, issuer: &Issuer<'static, KeyPair>) -> Result<Identity, PkiError> {
    Identity::from_generated(vec![signed(role, key, issuer, &Mistakes::default())?], key)
}

/// A leaf with mistakes in it; `beside` is the key that its file has in place of the right one.
pub(super) fn flawed(
    role: Role,
    key: &KeyPair,
    issuer: &Issuer<'static, KeyPair>,
    mistakes: &Mistakes,
    beside: Option<&KeyPair>,
) -> Result<Identity, PkiError> {
    Identity::from_generated(vec![signed(role, key, issuer, mistakes)?], beside.unwrap_or(key))
}

fn signed(
    role: Role,
    key: &KeyPair,
    issuer: &Issuer<'static, KeyPair>,
    mistakes: &Mistakes,
) -> Result<CertificateDer<'static>, PkiError> {
    let given: Option<Vec<&str>> = mistakes.names.as_ref().map(|names| names.iter().map(String::as_str).collect());
    let mut params = params(given.as_deref().unwrap_or(&["localhost", "127.0.0.1", "::1"]))?;
    params.distinguished_name.push(
        DnType::CommonName,
        match role {
            Role::Server => "localhost",
            Role::Client => "soupscen client",
        },
    );
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
    params.extended_key_usages = vec![match role {
        Role::Server => ExtendedKeyUsagePurpose::ServerAuth,
        Role::Client => ExtendedKeyUsagePurpose::ClientAuth,
    }];
    params.use_authority_key_identifier_extension = true;
    let now = OffsetDateTime::now_utc();
    params.not_before = now - CLOCK_SKEW;
    params.not_after = now + RUN_VALIDITY;
    if mistakes.expired {
        params.not_before = now - RUN_VALIDITY;
        params.not_after = now - CLOCK_SKEW;
    }
    let cert = params.signed_by(key, issuer).map_err(|error| failed("a certificate", &error))?;
    Ok(cert.der().clone())
}
