//! Entry points for fuzzing: tokens, certificates and requests of strangers.

use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer};
use skep_types::{Nanos, NodeRole, Timestamp};

use crate::{
    Identity, JoinToken, NodeKey, NodeSubject, Signer, TrustRoot, create_root, format_unlock_key,
    parse_unlock_key,
};

/// A swarm to be deceived.
struct Sample {
    made: Timestamp,
    signer: Signer,
    trust: TrustRoot,
    root: Vec<u8>,
    node: Vec<u8>,
    request: Vec<u8>,
}

static SAMPLE: LazyLock<Sample> = LazyLock::new(|| {
    let made = crate::now();
    let root = create_root(made).expect("a root");
    let pem = root.certificate_pem.as_bytes();
    let signer = Signer::from_pem(pem, root.key_pem.as_bytes()).expect("a signer");
    let key = NodeKey::generate().expect("a key");
    let request = key.request_pem().expect("a request");
    let node =
        signer.sign(request.as_bytes(), &subject(), Nanos::default(), made).expect("a certificate");
    let certificate = |pem: &[u8]| {
        CertificateDer::from_pem_slice(pem).expect("our own certificate").as_ref().to_vec()
    };
    let request = CertificateSigningRequestDer::from_pem_slice(request.as_bytes());
    Sample {
        made,
        trust: TrustRoot::from_pem(pem, made).expect("a root to trust"),
        root: certificate(pem),
        node: certificate(&node),
        request: request.expect("our own request").as_ref().to_vec(),
        signer,
    }
});

fn subject() -> NodeSubject {
    NodeSubject { node_id: "node".into(), role: NodeRole::Worker, cluster_id: "swarm".into() }
}

/// The bytes behind the first, or, where that is odd, `sample` with some changed: two bytes say where,
/// a third what is there then.
fn forged(sample: &[u8], bytes: &[u8]) -> Vec<u8> {
    let Some((head, rest)) = bytes.split_first() else { return Vec::new() };
    if head % 2 == 0 {
        return rest.to_vec();
    }
    let mut forged = sample.to_vec();
    for change in rest.chunks_exact(3) {
        let place = usize::from(u16::from_be_bytes([change[0], change[1]])) % forged.len();
        forged[place] = change[2];
    }
    forged
}

fn pem(label: &str, der: &[u8]) -> Vec<u8> {
    let text = STANDARD.encode(der);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).filter_map(|line| std::str::from_utf8(line).ok()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n")).into_bytes()
}

/// Join tokens and unlock keys as users paste them.
///
/// # Panics
/// If a token that was accepted is written otherwise than it was read.
pub fn fuzz_token(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(token) = text.parse::<JoinToken>() {
        assert_eq!(token.to_string(), text);
    }
    if let Ok(key) = parse_unlock_key(&text) {
        assert_eq!(format_unlock_key(&key), text);
    }
}

/// A node's certificate and a root's, as a peer shows them.
///
/// # Panics
/// If a certificate is believed that the swarm did not issue.
pub fn fuzz_certificate(bytes: &[u8]) {
    let sample = &*SAMPLE;
    let der = CertificateDer::from(forged(&sample.node, bytes));
    let _ = Identity::of(&der);
    if sample.trust.verify(std::slice::from_ref(&der), sample.made).is_ok() {
        assert_eq!(der.as_ref(), sample.node, "a forged certificate was accepted");
    }
    let root = forged(&sample.root, bytes);
    if let Ok(trust) = TrustRoot::from_pem(&pem("CERTIFICATE", &root), sample.made) {
        let _ = trust.digest();
        let _ = sample.signer.cross_sign(trust.pem());
    }
    let _ = TrustRoot::from_pem(bytes, sample.made);
}

/// A request for a certificate.
///
/// # Panics
/// If what was signed is no certificate of the swarm.
pub fn fuzz_request(bytes: &[u8]) {
    let sample = &*SAMPLE;
    let request = pem("CERTIFICATE REQUEST", &forged(&sample.request, bytes));
    for request in [&request[..], bytes] {
        let signed = sample.signer.sign(request, &subject(), Nanos::default(), sample.made);
        let Ok(signed) = signed else { continue };
        let leaf = CertificateDer::from_pem_slice(&signed).expect("a certificate");
        let identity = sample.trust.verify(&[leaf], sample.made).expect("one of the swarm");
        assert_eq!(identity.role, NodeRole::Worker);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_samples_are_good() {
        let sample = &*SAMPLE;
        let leaf = CertificateDer::from(forged(&sample.node, &[1]));
        assert!(sample.trust.verify(&[leaf], sample.made).is_ok());
        assert!(TrustRoot::from_pem(&pem("CERTIFICATE", &sample.root), sample.made).is_ok());
        let request = pem("CERTIFICATE REQUEST", &sample.request);
        assert!(sample.signer.sign(&request, &subject(), Nanos::default(), sample.made).is_ok());
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..Default::default() })]

        #[test]
        fn bytes_of_strangers(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            fuzz_certificate(&bytes);
            fuzz_request(&bytes);
            fuzz_token(&bytes);
        }

        #[test]
        fn damaged_tokens(place in any::<u16>(), what in any::<char>(), cut in any::<u16>()) {
            let mut text: Vec<char> =
                JoinToken::new(b"root", [7; 16]).to_string().chars().collect();
            let place = usize::from(place) % text.len();
            text[place] = what;
            if cut % 3 == 0 {
                text.truncate(usize::from(cut) % 90);
            }
            fuzz_token(text.iter().collect::<String>().as_bytes());
        }
    }
}
