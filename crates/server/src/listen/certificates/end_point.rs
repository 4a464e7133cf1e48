//! RFC 5929 §4: `tls-server-end-point`, a hash of the server's certificate.
//!
//! The hash is that of the certificate's signature, or SHA-256 where that is MD5 or SHA-1. For Ed25519 the document says
//! nothing, as that signature names no hash; SHA-512, which works inside it, is what GnuTLS and others use. Where no single
//! hash can be named the binding is not defined, and not offered.

use aws_lc_rs::digest::{Algorithm, SHA224, SHA256, SHA384, SHA512, digest};
use rustls_pki_types::CertificateDer;
use x509_parser::oid_registry::{
    OID_HASH_SHA1, OID_NIST_HASH_SHA256, OID_NIST_HASH_SHA384, OID_NIST_HASH_SHA512, OID_PKCS1_MD5WITHRSAENC,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA1WITHRSA, OID_PKCS1_SHA224WITHRSA, OID_PKCS1_SHA256WITHRSA,
    OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA, OID_SIG_ECDSA_WITH_SHA224, OID_SIG_ECDSA_WITH_SHA256,
    OID_SIG_ECDSA_WITH_SHA384, OID_SIG_ECDSA_WITH_SHA512, OID_SIG_ED25519,
};
use x509_parser::signature_algorithm::SignatureAlgorithm;
use x509_parser::x509::AlgorithmIdentifier;

/// The binding of a certificate; `None` where it is not defined.
pub fn end_point_binding(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    let algorithm = hash_of(&parsed.signature_algorithm)?;
    Some(digest(algorithm, certificate).as_ref().to_vec())
}

fn hash_of(signature: &AlgorithmIdentifier<'_>) -> Option<&'static Algorithm> {
    let oid = &signature.algorithm;
    if *oid == OID_PKCS1_RSASSAPSS {
        let Ok(SignatureAlgorithm::RSASSA_PSS(parameters)) = SignatureAlgorithm::try_from(signature) else {
            return None;
        };
        return match parameters.hash_algorithm_oid() {
            hash if *hash == OID_NIST_HASH_SHA256 || *hash == OID_HASH_SHA1 => Some(&SHA256),
            hash if *hash == OID_NIST_HASH_SHA384 => Some(&SHA384),
            hash if *hash == OID_NIST_HASH_SHA512 => Some(&SHA512),
            _ => None,
        };
    }
    let by_oid: [(_, &'static Algorithm); 11] = [
        (OID_PKCS1_MD5WITHRSAENC, &SHA256),
        (OID_PKCS1_SHA1WITHRSA, &SHA256),
        (OID_PKCS1_SHA224WITHRSA, &SHA224),
        (OID_PKCS1_SHA256WITHRSA, &SHA256),
        (OID_PKCS1_SHA384WITHRSA, &SHA384),
        (OID_PKCS1_SHA512WITHRSA, &SHA512),
        (OID_SIG_ECDSA_WITH_SHA224, &SHA224),
        (OID_SIG_ECDSA_WITH_SHA256, &SHA256),
        (OID_SIG_ECDSA_WITH_SHA384, &SHA384),
        (OID_SIG_ECDSA_WITH_SHA512, &SHA512),
        (OID_SIG_ED25519, &SHA512),
    ];
    by_oid.into_iter().find_map(|(known, hash)| (known == *oid).then_some(hash))
}
