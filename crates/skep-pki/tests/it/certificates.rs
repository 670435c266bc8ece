use std::fs;
use std::path::Path;
use std::process::Command;

use skep_pki::{CertError, Credentials, NodeKey, SignError, Signer, TrustRoot, create_root};
use skep_types::{Nanos, NodeRole};

use crate::{Swarm, now, subject};

fn openssl(arguments: &[&str], folder: &Path) -> String {
    let output = Command::new("openssl")
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("openssl must be installed");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    text
}

/// The lines of one section of `openssl x509 -text`, trimmed.
fn text_of(pem: &[u8]) -> (tempfile::TempDir, Vec<String>) {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("c.pem"), pem).unwrap();
    let text = openssl(&["x509", "-in", "c.pem", "-noout", "-text"], folder.path());
    (folder, text.lines().map(|line| line.trim().to_owned()).collect())
}

fn after<'a>(lines: &'a [String], heading: &str) -> &'a str {
    let at = lines.iter().position(|line| line.starts_with(heading));
    let at = at.unwrap_or_else(|| panic!("{heading} not in {lines:#?}"));
    &lines[at + 1]
}

fn has(lines: &[String], start: &str) -> bool {
    lines.iter().any(|line| line.starts_with(start))
}

#[test]
fn a_root_has_dockers_profile() {
    let root = create_root(now()).unwrap();
    let (folder, lines) = text_of(root.certificate_pem.as_bytes());
    assert!(has(&lines, "Subject: CN = swarm-ca"), "{lines:#?}");
    assert!(has(&lines, "Issuer: CN = swarm-ca"));
    assert!(has(&lines, "Signature Algorithm: ecdsa-with-SHA256"));
    assert!(has(&lines, "ASN1 OID: prime256v1"));
    assert_eq!(after(&lines, "X509v3 Key Usage: critical"), "Certificate Sign, CRL Sign");
    assert_eq!(after(&lines, "X509v3 Basic Constraints: critical"), "CA:TRUE");
    assert!(has(&lines, "X509v3 Subject Key Identifier"));
    assert!(!has(&lines, "X509v3 Authority Key Identifier"));
    assert!(!has(&lines, "X509v3 Subject Alternative Name"));
    // 20 years less 5 minutes are left.
    let twenty_years = 630_720_000;
    openssl(
        &["x509", "-in", "c.pem", "-noout", "-checkend", &(twenty_years - 600).to_string()],
        folder.path(),
    );
}

#[test]
fn node_certificates_have_dockers_profile_and_verify() {
    let swarm = Swarm::new();
    for (role, names) in [
        (NodeRole::Worker, "DNS:swarm-worker, DNS:nodeid"),
        (NodeRole::Manager, "DNS:swarm-manager, DNS:nodeid, DNS:swarm-ca"),
    ] {
        let credentials = swarm.issue("nodeid", role);
        let (folder, lines) = text_of(credentials.certificate_pem());
        let unit = if role == NodeRole::Worker { "swarm-worker" } else { "swarm-manager" };
        assert!(
            has(&lines, &format!("Subject: CN = nodeid, OU = {unit}, O = swarmid")),
            "{lines:#?}"
        );
        assert_eq!(
            after(&lines, "X509v3 Key Usage: critical"),
            "Digital Signature, Key Encipherment"
        );
        assert_eq!(
            after(&lines, "X509v3 Extended Key Usage"),
            "TLS Web Server Authentication, TLS Web Client Authentication"
        );
        assert_eq!(after(&lines, "X509v3 Basic Constraints: critical"), "CA:FALSE");
        assert_eq!(after(&lines, "X509v3 Subject Alternative Name"), names);
        assert!(has(&lines, "X509v3 Subject Key Identifier"));
        assert!(has(&lines, "X509v3 Authority Key Identifier"));
        let serial = after(&lines, "Serial Number");
        assert_eq!(serial.split(':').count(), 20, "{serial}");

        fs::write(folder.path().join("root.pem"), swarm.trust.pem()).unwrap();
        for purpose in ["sslserver", "sslclient"] {
            openssl(
                &["verify", "-x509_strict", "-purpose", purpose, "-CAfile", "root.pem", "c.pem"],
                folder.path(),
            );
        }
        // PrintableString, as Docker writes subjects.
        let der = openssl(&["asn1parse", "-in", "c.pem"], folder.path());
        assert!(!der.contains("UTF8STRING"), "{der}");
        assert!(der.contains("PRINTABLESTRING   :nodeid"), "{der}");

        let identity = credentials.identity();
        assert_eq!(identity.node_id.as_str(), "nodeid");
        assert_eq!(identity.role, role);
        assert_eq!(identity.cluster_id.as_str(), "swarmid");
    }
}

#[test]
fn expiry_is_the_cluster_s_but_never_below_an_hour() {
    let swarm = Swarm::new();
    let day = 24 * 3600;
    for (asked, given) in [(0, 90 * day), (3599, 90 * day), (3600, 3600), (10 * day, 10 * day)] {
        let key = NodeKey::generate().unwrap();
        let start = now();
        let pem = swarm
            .signer
            .sign(
                key.request_pem().unwrap().as_bytes(),
                &subject("n", NodeRole::Worker),
                Nanos::from_secs(asked),
                start,
            )
            .unwrap();
        let credentials =
            Credentials::new(swarm.trust.clone(), &pem, key.to_pem().as_bytes(), start).unwrap();
        let identity = credentials.identity();
        assert_eq!(identity.not_after.unix_secs() - start.unix_secs(), given);
        let behind = start.unix_secs() - identity.not_before.unix_secs();
        assert!((3570..=3630).contains(&behind), "{behind}");
        assert_eq!(identity.not_before.unix_secs() % 60, 0);
    }
}

#[test]
fn a_request_is_an_empty_subject_and_a_key() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.pem"), NodeKey::generate().unwrap().request_pem().unwrap())
        .unwrap();
    let text = openssl(&["req", "-in", "r.pem", "-noout", "-text", "-verify"], folder.path());
    assert!(text.contains("Subject: \n") || text.contains("Subject:\n"), "{text}");
    assert!(text.contains("ASN1 OID: prime256v1"), "{text}");
}

#[test]
fn requests_of_openssl_are_signed_and_forged_ones_refused() {
    let swarm = Swarm::new();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    openssl(&["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "k.pem"], path);
    openssl(&["req", "-new", "-key", "k.pem", "-subj", "/CN=liar", "-out", "r.pem"], path);
    let request = fs::read(path.join("r.pem")).unwrap();
    let node = subject("honest", NodeRole::Worker);
    let pem = swarm.signer.sign(&request, &node, Nanos::default(), now()).unwrap();
    fs::write(path.join("c.pem"), pem).unwrap();
    let name = openssl(&["x509", "-in", "c.pem", "-noout", "-subject"], path);
    assert!(name.contains("CN = honest") && !name.contains("liar"), "{name}");

    // The same request with a flipped bit near its end, in the signature.
    openssl(&["req", "-in", "r.pem", "-outform", "DER", "-out", "r.der"], path);
    let mut der = fs::read(path.join("r.der")).unwrap();
    *der.last_mut().unwrap() ^= 1;
    fs::write(path.join("r.der"), der).unwrap();
    openssl(&["req", "-in", "r.der", "-inform", "DER", "-out", "r.pem"], path);
    let forged = fs::read(path.join("r.pem")).unwrap();
    let error = swarm.signer.sign(&forged, &node, Nanos::default(), now()).unwrap_err();
    assert!(matches!(error, SignError::RequestParse), "{error:?}");
    let error = swarm.signer.sign(b"", &node, Nanos::default(), now()).unwrap_err();
    assert!(matches!(error, SignError::RequestPem(_)), "{error:?}");
}

#[test]
fn a_bundle_must_be_self_signed_and_in_date() {
    let swarm = Swarm::new();
    let node = swarm.issue("n", NodeRole::Worker);
    let error = TrustRoot::from_pem(node.certificate_pem(), now()).unwrap_err();
    assert!(matches!(error, CertError::NotSelfSigned { .. }), "{error:?}");
    let error = TrustRoot::from_pem(b"nothing", now()).unwrap_err();
    assert!(matches!(error, CertError::Empty), "{error:?}");
    let later = now() + Nanos::from_secs(21 * 365 * 24 * 3600);
    let error = TrustRoot::from_pem(swarm.trust.pem(), later).unwrap_err();
    assert!(matches!(error, CertError::OutOfDate { .. }), "{error:?}");
}

#[test]
fn credentials_must_belong_together() {
    let (swarm, other) = (Swarm::new(), Swarm::new());
    let node = swarm.issue("n", NodeRole::Worker);
    let make = |trust: &TrustRoot, key: &[u8], when| {
        Credentials::new(trust.clone(), node.certificate_pem(), key, when).unwrap_err()
    };
    let error = make(&other.trust, node.key_pem(), now());
    assert!(matches!(error, CertError::Untrusted(_)), "{error:?}");
    let key = NodeKey::generate().unwrap().to_pem();
    let error = make(&swarm.trust, key.as_bytes(), now());
    assert!(matches!(error, CertError::KeyMismatch), "{error:?}");
    let error = make(&swarm.trust, node.key_pem(), now() + Nanos::from_secs(91 * 24 * 3600));
    assert!(matches!(error, CertError::OutOfDate { .. }), "{error:?}");
}

#[test]
fn a_key_that_is_not_the_root_s_signs_nothing() {
    let (swarm, other) = (Swarm::new(), Swarm::new());
    let error = Signer::from_pem(swarm.trust.pem(), other.key_pem.as_bytes()).unwrap_err();
    assert!(matches!(error, SignError::IssuerMismatch), "{error:?}");
}

#[test]
fn during_a_rotation_either_root_verifies() {
    let (old, new) = (Swarm::new(), Swarm::new());
    let cross = old.signer.cross_sign(new.trust.pem()).unwrap();
    let (folder, lines) = text_of(&cross);
    assert!(has(&lines, "Subject: CN = swarm-ca") && has(&lines, "Issuer: CN = swarm-ca"));
    assert!(!has(&lines, "X509v3 Authority Key Identifier"));

    let signer = Signer::from_pem(new.trust.pem(), new.key_pem.as_bytes())
        .unwrap()
        .with_intermediate(&cross);
    let key = NodeKey::generate().unwrap();
    let pem = signer
        .sign(
            key.request_pem().unwrap().as_bytes(),
            &subject("n", NodeRole::Manager),
            Nanos::default(),
            now(),
        )
        .unwrap();
    let mut infos = Vec::new();
    for trust in [&old.trust, &new.trust] {
        let credentials =
            Credentials::new(trust.clone(), &pem, key.to_pem().as_bytes(), now()).unwrap();
        infos.push(credentials.tls_info().clone());
    }
    // The issuer is the new root either way: that is what a rotation waits for.
    assert_eq!(infos[0].cert_issuer_public_key, infos[1].cert_issuer_public_key);
    assert_eq!(infos[0].cert_issuer_subject, infos[1].cert_issuer_subject);
    let own = new.issue("n", NodeRole::Manager);
    assert_eq!(own.tls_info().cert_issuer_public_key, infos[1].cert_issuer_public_key);

    let path = folder.path();
    fs::write(path.join("leaf.pem"), &pem).unwrap();
    fs::write(path.join("new.pem"), new.trust.pem()).unwrap();
    // OpenSSL builds paths by name and takes the cross certificate for a self-signed one, so only the
    // new root can be judged by it.
    openssl(&["verify", "-CAfile", "new.pem", "leaf.pem"], path);
}

#[test]
fn tls_info_is_the_issuer_s_subject_and_key_in_der() {
    let swarm = Swarm::new();
    let info = swarm.issue("n", NodeRole::Worker).tls_info().clone();
    assert_eq!(info.trust_root.as_bytes(), swarm.trust.pem());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    fs::write(path.join("root.pem"), swarm.trust.pem()).unwrap();
    openssl(&["x509", "-in", "root.pem", "-noout", "-pubkey", "-out", "k.pem"], path);
    openssl(&["pkey", "-pubin", "-in", "k.pem", "-outform", "DER", "-out", "k.der"], path);
    assert_eq!(info.cert_issuer_public_key.0, fs::read(path.join("k.der")).unwrap());
    // SEQUENCE { SET { SEQUENCE { commonName, PrintableString "swarm-ca" } } }
    let subject =
        [&[0x30, 0x13, 0x31, 0x11, 0x30, 0x0f, 6, 3, 0x55, 4, 3, 0x13, 8][..], b"swarm-ca"];
    assert_eq!(info.cert_issuer_subject.0, subject.concat());
}
