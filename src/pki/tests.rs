use std::time::Duration;

use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::danger::ClientCertVerifier as _;
use rustls::{CertificateError, Error};

use super::verify::Pinned;
use super::*;
use crate::axis::values::KeyType;

#[test]
fn auto_mtls_certificates_are_as_go_plugin_makes_them() {
    for key in [KeyType::P256, KeyType::P384, KeyType::P521, KeyType::Ed25519] {
        let identity = Identity::self_signed(key).unwrap();
        let facts = identity.facts();
        assert_eq!(facts.key, Some(key));
        assert_eq!(facts.subject, "O=HashiCorp, CN=localhost");
        assert_eq!(facts.dns_names, ["localhost"]);
        assert!(facts.ca);
        let now = i64::try_from(UnixTime::now().as_secs()).unwrap();
        assert!((now - 40..now - 25).contains(&facts.not_before), "30 seconds back");
        assert_eq!(facts.not_after - facts.not_before, 262_980 * 3600 + 30);
        assert_eq!(pem_facts(identity.chain_pem()).as_ref(), Some(facts));
    }
}

/// RFC 8410 section 7: version 1 ends with the seed. OpenSSL 3.0 and `BoringSSL` read no other.
#[test]
fn an_ed25519_key_is_written_as_every_library_reads_it() {
    let identity = Identity::self_signed(KeyType::Ed25519).unwrap();
    let key = identity.key_der().unwrap();
    let der = key.secret_der();
    assert_eq!((der.len(), &der[..5]), (48, &[0x30, 0x2e, 2, 1, 0][..]), "PKCS #8, version 1, nothing behind the seed");
    let signing = provider().key_provider.load_private_key(key.clone_key()).unwrap();
    assert_eq!(signing.algorithm(), rustls::SignatureAlgorithm::ED25519);
    let again =
        Identity::from_pem(identity.chain_pem().as_bytes(), "cert", identity.key_pem().unwrap().as_bytes(), "key");
    assert_eq!(again.unwrap().key_der().unwrap().secret_der(), der, "the key still belongs to its certificate");
}

#[tokio::test]
async fn an_authority_makes_each_thing_once_and_keeps_keys_private() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path().join("deep/keys");
    let authority = Authority::new(Some(&folder)).unwrap();
    let (one, same) =
        tokio::join!(authority.issue(Role::Server, KeyType::P256), authority.issue(Role::Server, KeyType::P256));
    let (one, client) = (one.unwrap(), authority.issue(Role::Client, KeyType::P256).await.unwrap());
    assert!(Arc::ptr_eq(&one, &same.unwrap()));
    assert_eq!(one.key_pem(), client.key_pem(), "one key per run and type");
    assert_ne!(one.leaf_der(), client.leaf_der());
    assert!(!one.facts().ca && authority.root().facts().ca);
    assert_eq!(authority.root().key_pem(), None, "the authority's key is given to nobody");
    let mut names = Vec::new();
    for file in std::fs::read_dir(&folder).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["ca.crt", "client-p256.crt", "client-p256.key", "server-p256.crt", "server-p256.key"]);
    let files = one.files().unwrap();
    let loaded = Identity::load(&files.cert, files.key.as_ref().unwrap()).unwrap();
    assert_eq!(loaded.leaf_der(), one.leaf_der());
    assert_eq!(loaded.files(), Some(files));
}

#[test]
fn what_is_wrong_with_a_file_is_said() {
    let (one, other) = (Identity::self_signed(KeyType::P256).unwrap(), Identity::self_signed(KeyType::P384).unwrap());
    let (cert, key) = (one.chain_pem(), one.key_pem().unwrap());
    let broken = cert.replace("MII", "MIJ");
    let encrypted = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old =
        "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES\n\nMIIB\n-----END EC PRIVATE KEY-----\n";
    for (cert, key, says) in [
        ("", key, "certificate in c.pem is empty"),
        (" \n", key, "certificate in c.pem is empty"),
        ("0\u{82}\u{1}binary", key, "is not PEM"),
        (key, key, "no certificate in c.pem: its PEM blocks are of another kind (PRIVATE KEY)"),
        (&broken, key, "certificate in c.pem is broken"),
        (cert, "", "key in k.pem is empty"),
        (cert, cert, "no key in k.pem: its PEM blocks are of another kind (CERTIFICATE)"),
        (cert, encrypted, "is encrypted"),
        (cert, old, "is encrypted"),
        (cert, other.key_pem().unwrap(), "key in k.pem does not belong to the certificate in c.pem"),
        (cert, &key.replace("MIG", "MIH"), "key in k.pem"),
    ] {
        let error = Identity::from_pem(cert.as_bytes(), "c.pem", key.as_bytes(), "k.pem").unwrap_err().to_string();
        assert!(error.contains(says), "{error} / {says}");
    }
    let error = Identity::load_trust(std::path::Path::new("/absent/ca.pem")).unwrap_err().to_string();
    assert!(error.contains("cannot read CA file `/absent/ca.pem`"), "{error}");
    assert!(Identity::from_der(b"junk".to_vec()).is_err());
    let mut trailing = one.leaf_der().to_vec();
    trailing.push(0);
    assert!(Identity::from_der(trailing).is_err());
}

#[test]
fn a_pin_is_exact_and_checks_name_and_validity_too() {
    let (ours, other) = (Identity::self_signed(KeyType::P256).unwrap(), Identity::self_signed(KeyType::P256).unwrap());
    let pin = Pinned::new(&ours);
    let now = UnixTime::now();
    let server = |identity: &Identity, name: &str, now| {
        let der = CertificateDer::from(identity.leaf_der().to_vec());
        pin.verify_server_cert(&der, &[], &ServerName::try_from(name.to_owned()).unwrap(), &[], now).map(drop)
    };
    let client = |identity: &Identity, now| {
        pin.verify_client_cert(&CertificateDer::from(identity.leaf_der().to_vec()), &[], now).map(drop)
    };
    server(&ours, "localhost", now).unwrap();
    client(&ours, now).unwrap();
    let refused = |result: Result<(), Error>| match result {
        Err(Error::InvalidCertificate(problem)) => problem,
        other => panic!("{other:?}"),
    };
    assert!(matches!(refused(server(&other, "localhost", now)), CertificateError::Other(_)));
    assert!(matches!(refused(client(&other, now)), CertificateError::Other(_)));
    assert!(matches!(refused(server(&ours, "example.org", now)), CertificateError::NotValidForNameContext { .. }));
    let at = |seconds: u64| UnixTime::since_unix_epoch(Duration::from_secs(seconds));
    let (early, late) = (at(now.as_secs() - 100), at(now.as_secs() + 40 * 366 * 86_400));
    for result in [server(&ours, "localhost", early), client(&ours, early)] {
        assert!(matches!(refused(result), CertificateError::NotValidYetContext { .. }));
    }
    for result in [server(&ours, "localhost", late), client(&ours, late)] {
        assert!(matches!(refused(result), CertificateError::ExpiredContext { .. }));
    }
}
