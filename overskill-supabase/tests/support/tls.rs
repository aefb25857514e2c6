//! A server with TLS, by an authority of its own.

use overskill_testkit::postgres::PostgresCluster;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// Somebody whom servers are trusted by.
pub(crate) struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    pub(crate) fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    /// Its certificate.
    pub(crate) fn pem(&self) -> String {
        self.0.pem()
    }

    /// Gives the server a certificate for `name`; from then on it has TLS.
    pub(crate) fn certify(&self, cluster: &PostgresCluster, name: &str) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.0).unwrap();
        // As the server's own user, in its own folder.
        for (file, text) in [("server.crt", certificate.pem()), ("server.key", key.serialize_pem())] {
            let lines: Vec<_> = text.lines().map(|line| format!("'{line}'")).collect();
            let copy =
                format!("COPY (SELECT unnest(ARRAY[{}])) TO PROGRAM 'umask 077; cat > {file}'", lines.join(", "));
            cluster.execute("postgres", &copy).unwrap();
        }
        cluster.execute("postgres", "ALTER SYSTEM SET ssl = on").unwrap();
        cluster.execute("postgres", "SELECT pg_reload_conf()").unwrap();
    }
}
