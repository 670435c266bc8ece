use std::fmt;

use rcgen::{CertificateParams, DistinguishedName, KeyPair};

use crate::SignError;

/// A node's private key: ECDSA P-256.
pub struct NodeKey {
    pair: KeyPair,
}

impl fmt::Debug for NodeKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeKey(..)")
    }
}

impl NodeKey {
    pub fn generate() -> Result<Self, SignError> {
        Ok(Self { pair: KeyPair::generate().map_err(SignError::Generate)? })
    }

    /// PKCS#8 in PEM.
    pub fn to_pem(&self) -> String {
        self.pair.serialize_pem()
    }

    /// A certificate request in PEM with an empty subject: the signer takes only the public key from
    /// it, and decides the rest.
    pub fn request_pem(&self) -> Result<String, SignError> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .serialize_request(&self.pair)
            .and_then(|request| request.pem())
            .map_err(SignError::Request)
    }
}
