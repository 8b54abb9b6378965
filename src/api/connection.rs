//! How a server is reached: the part that `MySQLServer` and an inline target share.
use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The port of MySQL when none is given.
pub const DEFAULT_PORT: i32 = 3306;

/// The name of an object in the same namespace.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct LocalReference {
    /// Name of the object, in the namespace of the object that refers to it.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

/// TLS for the connection to the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, KubeSchema)]
#[serde(rename_all = "camelCase")]
#[x_kube(
    validation = Rule::new("!(self.mode in ['VerifyCA', 'VerifyIdentity']) || has(self.secretRef)").message("mode VerifyCA and VerifyIdentity need secretRef: a Secret with the key ca.crt")
)]
pub struct TlsSpec {
    /// As `--ssl-mode` of the MySQL clients. `Preferred` uses TLS if the server offers it, without checking its certificate;
    /// only `VerifyIdentity` protects against a man in the middle.
    #[serde(default)]
    pub mode: TlsMode,
    /// A Secret in the same namespace with the keys `ca.crt` (needed by `VerifyCA` and `VerifyIdentity`), and `tls.crt` with `tls.key`
    /// (both or none) for a client certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_ref: Option<LocalReference>,
}

/// MySQL's own mode names.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[schemars(inline)]
pub enum TlsMode {
    /// Plain text.
    Disabled,
    /// TLS if the server offers it, plain text otherwise.
    #[default]
    Preferred,
    /// TLS, certificate not checked.
    Required,
    /// TLS, the certificate's chain is checked.
    VerifyCA,
    /// TLS, chain and host name are checked.
    VerifyIdentity,
}
