//! Step 1: what the spec refers to: the `MySQLServer`, the Secrets. The only step that reads other objects.
//!
//! Only objects of the same namespace are read, each by `get`: the operator's account needs no list or watch on Secrets.
//! [`resolve`] is pure; `theseus run` uses it with the documents of its file.
use crate::api::connection::{DEFAULT_PORT, TlsMode as ApiTlsMode, TlsSpec};
use crate::api::mysql_server::{DEFAULT_MAX_CONCURRENT_MIGRATIONS, MySQLServer, MySQLServerSpec};
use crate::api::schema_migration::{HOOK_KEY, HookSpec, ReplicasSpec, Target};
use crate::engine::contract::reason::Reason;
use crate::engine::contract::spec::{ServerAddress, Tls, TlsMode};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, Client};
use std::collections::BTreeMap;
use std::time::Duration;

/// The API server answers in milliseconds; a visit that waits longer is better repeated.
const LIMIT: Duration = Duration::from_secs(10);

/// The decoded data of a Secret.
pub type SecretData = BTreeMap<String, Vec<u8>>;

/// Keys of hooks by the name of their Secret.
pub type HookKeys = BTreeMap<String, Vec<u8>>;

/// A server that can be connected to, and its limit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// Where it is and how to log in.
    pub address: ServerAddress,
    /// How many migrations run there at once.
    pub max_concurrent_migrations: usize,
    /// What the `MySQLServer` says of its replicas.
    pub replicas: ReplicasSpec,
}

/// What is missing or does not fit. Each may be cured by someone creating or fixing an object, so each is retried.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The `MySQLServer` is not there.
    #[error("the MySQLServer {0} does not exist in this namespace: create it")]
    ServerNotFound(String),
    /// The Secret is not there.
    #[error("the Secret {0} does not exist in this namespace: create it")]
    SecretNotFound(String),
    /// The Secret lacks a key, or the key's value cannot be used.
    #[error("the Secret {secret} has no usable key {key}: {problem}")]
    SecretIncomplete {
        secret: String,
        key: &'static str,
        /// What is wrong.
        problem: &'static str,
    },
    /// The operator's account may not read it: as good as missing, and as soon cured ([`Reason::SecretNotFound`], [`Reason::ServerNotFound`]).
    #[error("the operator may not read {0}: {1}")]
    Forbidden(String, String, Reason),
    /// The target names neither or both of `serverRef` and `host`.
    #[error("spec.target: {0}")]
    Target(&'static str),
    /// The API server did not answer as it should.
    #[error("cannot read {what}: {source}")]
    Api {
        /// Kind and name.
        what: String,
        /// The client's error.
        source: kube::Error,
    },
    /// The API server did not answer.
    #[error("cannot read {0}: no answer within {LIMIT:?}")]
    TimedOut(String),
}

impl Error {
    /// It says nothing about the objects, only about the API server.
    pub fn is_of_the_api_server(&self) -> bool {
        matches!(self, Error::Api { .. } | Error::TimedOut(_))
    }

    /// The word for the condition.
    pub fn reason(&self) -> Reason {
        match self {
            Error::ServerNotFound(_) => Reason::ServerNotFound,
            Error::SecretNotFound(_) | Error::SecretIncomplete { .. } => Reason::SecretNotFound,
            Error::Target(_) => Reason::InvalidSpec,
            Error::Forbidden(.., reason) => *reason,
            Error::Api { .. } | Error::TimedOut(_) => Reason::Internal,
        }
    }
}

/// Reads what `target` refers to.
///
/// # Errors
/// Something is missing, does not fit, or cannot be read.
pub async fn dereference(client: &Client, namespace: &str, target: &Target) -> Result<Server, Error> {
    let server = match &target.server_ref {
        Some(reference) => {
            let api: Api<MySQLServer> = Api::namespaced(client.clone(), namespace);
            let found = bounded(format!("MySQLServer {}", reference.name), Reason::ServerNotFound, api.get_opt(&reference.name)).await?;
            Some(found.ok_or_else(|| Error::ServerNotFound(reference.name.clone()))?)
        }
        None => None,
    };
    let connection = Connection::of(target, server.as_ref().map(|server| &server.spec))?;
    fetch(client, namespace, &connection).await
}

/// Reads the keys of the hooks.
///
/// # Errors
/// As [`dereference`].
pub async fn hook_keys(client: &Client, namespace: &str, hooks: &[HookSpec]) -> Result<HookKeys, Error> {
    let mut keys = HookKeys::new();
    for reference in hooks.iter().filter_map(|hook| hook.secret_ref.as_ref()) {
        if !keys.contains_key(&reference.name) {
            let secret = read_secret(client, namespace, &reference.name).await?;
            keys.insert(reference.name.clone(), hook_key(&reference.name, &secret)?);
        }
    }
    Ok(keys)
}

/// The key of a hook's Secret.
///
/// # Errors
/// It is missing or empty.
pub fn hook_key(name: &str, secret: &SecretData) -> Result<Vec<u8>, Error> {
    match secret.get(HOOK_KEY) {
        Some(key) if !key.is_empty() => Ok(key.clone()),
        Some(_) => Err(Error::SecretIncomplete { secret: name.to_owned(), key: HOOK_KEY, problem: "it is empty" }),
        None => Err(Error::SecretIncomplete { secret: name.to_owned(), key: HOOK_KEY, problem: "it is missing" }),
    }
}

/// Reads the Secrets that a `MySQLServer` refers to.
///
/// # Errors
/// As [`dereference`].
pub async fn dereference_server(client: &Client, namespace: &str, spec: &MySQLServerSpec) -> Result<Server, Error> {
    fetch(client, namespace, &Connection::of_server(spec)).await
}

async fn fetch(client: &Client, namespace: &str, connection: &Connection) -> Result<Server, Error> {
    let mut secrets = BTreeMap::new();
    for name in connection.secrets() {
        secrets.insert(name.to_owned(), read_secret(client, namespace, name).await?);
    }
    connection.resolve(&secrets)
}

async fn read_secret(client: &Client, namespace: &str, name: &str) -> Result<SecretData, Error> {
    let api: Api<Secret> = Api::namespaced(client.clone(), namespace);
    let found = bounded(format!("Secret {name}"), Reason::SecretNotFound, api.get_opt(name)).await?;
    let found = found.ok_or_else(|| Error::SecretNotFound(name.to_owned()))?;
    Ok(found.data.unwrap_or_default().into_iter().map(|(key, value)| (key, value.0)).collect())
}

async fn bounded<T>(what: String, missing: Reason, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(Ok(found)) => Ok(found),
        Ok(Err(kube::Error::Api(status))) if status.code == 403 => Err(Error::Forbidden(what, status.message.clone(), missing)),
        Ok(Err(source)) => Err(Error::Api { what, source }),
        Err(_) => Err(Error::TimedOut(what)),
    }
}

/// The connection of a target from objects that are at hand.
///
/// # Errors
/// Something is missing or does not fit.
pub fn resolve(target: &Target, server: Option<&MySQLServerSpec>, secrets: &BTreeMap<String, SecretData>) -> Result<Server, Error> {
    Connection::of(target, server)?.resolve(secrets)
}

/// A connection whose Secrets have not been read.
struct Connection {
    host: String,
    port: i32,
    credentials: String,
    tls: TlsSpec,
    max_concurrent_migrations: i32,
    replicas: ReplicasSpec,
}

impl Connection {
    fn of(target: &Target, server: Option<&MySQLServerSpec>) -> Result<Self, Error> {
        match (&target.server_ref, &target.host) {
            (Some(reference), None) => server.map(Self::of_server).ok_or_else(|| Error::ServerNotFound(reference.name.clone())),
            (None, Some(host)) => Ok(Self {
                host: host.clone(),
                port: target.port.unwrap_or(DEFAULT_PORT),
                credentials: target
                    .credentials_secret_ref
                    .as_ref()
                    .map(|secret| secret.name.clone())
                    .ok_or(Error::Target("host needs credentialsSecretRef: a Secret with the keys username and password"))?,
                tls: target.tls.clone().unwrap_or_default(),
                max_concurrent_migrations: DEFAULT_MAX_CONCURRENT_MIGRATIONS,
                replicas: ReplicasSpec::default(),
            }),
            _ => Err(Error::Target("exactly one of serverRef and host must be set")),
        }
    }

    fn of_server(spec: &MySQLServerSpec) -> Self {
        Self {
            host: spec.host.clone(),
            port: spec.port,
            credentials: spec.credentials_secret_ref.name.clone(),
            tls: spec.tls.clone(),
            max_concurrent_migrations: spec.max_concurrent_migrations,
            replicas: spec.replicas.clone(),
        }
    }

    fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.credentials.as_str()).chain(self.tls.secret_ref.iter().map(|secret| secret.name.as_str()))
    }

    fn resolve(&self, secrets: &BTreeMap<String, SecretData>) -> Result<Server, Error> {
        let secret = |name: &str| secrets.get(name).ok_or_else(|| Error::SecretNotFound(name.to_owned()));
        let credentials = secret(&self.credentials)?;
        let tls = match &self.tls.secret_ref {
            Some(reference) => Some((reference.name.as_str(), secret(&reference.name)?)),
            None => None,
        };
        Ok(Server {
            address: ServerAddress {
                host: self.host.clone(),
                port: u16::try_from(self.port).map_err(|_| Error::Target("port must be between 1 and 65535"))?,
                username: text(&self.credentials, credentials, "username")?,
                password: text(&self.credentials, credentials, "password")?,
                tls: transport(self.tls.mode, tls)?,
                unlogged: false,
            },
            max_concurrent_migrations: usize::try_from(self.max_concurrent_migrations).unwrap_or(1).max(1),
            replicas: self.replicas.clone(),
        })
    }
}

fn text(secret: &str, data: &SecretData, key: &'static str) -> Result<String, Error> {
    let incomplete = |problem| Error::SecretIncomplete { secret: secret.to_owned(), key, problem };
    let value = data.get(key).ok_or_else(|| incomplete("the key is missing"))?;
    let value = std::str::from_utf8(value).map_err(|_| incomplete("the value is not UTF-8"))?;
    if key == "username" && value.is_empty() {
        return Err(incomplete("the value is empty"));
    }
    Ok(value.to_owned())
}

fn transport(mode: ApiTlsMode, secret: Option<(&str, &SecretData)>) -> Result<Tls, Error> {
    let mode = match mode {
        ApiTlsMode::Disabled => TlsMode::Disabled,
        ApiTlsMode::Preferred => TlsMode::Preferred,
        ApiTlsMode::Required => TlsMode::Required,
        ApiTlsMode::VerifyCA => TlsMode::VerifyCa,
        ApiTlsMode::VerifyIdentity => TlsMode::VerifyIdentity,
    };
    let verifies = matches!(mode, TlsMode::VerifyCa | TlsMode::VerifyIdentity);
    let Some((name, data)) = secret else {
        return if verifies {
            Err(Error::Target("tls mode VerifyCA and VerifyIdentity need tls.secretRef: a Secret with the key ca.crt"))
        } else {
            Ok(Tls { mode, ca_pem: None, client_identity: None })
        };
    };
    let incomplete = |key, problem| Error::SecretIncomplete { secret: name.to_owned(), key, problem };
    let pem = |key: &'static str| data.get(key).filter(|value| !value.is_empty()).cloned();
    let ca_pem = pem("ca.crt");
    if verifies && ca_pem.is_none() {
        return Err(incomplete("ca.crt", "the TLS mode needs it"));
    }
    let client_identity = match (pem("tls.crt"), pem("tls.key")) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(incomplete("tls.key", "it belongs to tls.crt")),
        (None, Some(_)) => return Err(incomplete("tls.crt", "it belongs to tls.key")),
    };
    Ok(Tls { mode, ca_pem, client_identity })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::api::connection::LocalReference;

    fn reference(name: &str) -> Option<LocalReference> {
        Some(LocalReference { name: name.to_owned() })
    }

    fn direct() -> Target {
        Target { host: Some("db".to_owned()), credentials_secret_ref: reference("login"), ..Target::default() }
    }

    fn secrets(entries: &[(&str, &[(&str, &str)])]) -> BTreeMap<String, SecretData> {
        entries
            .iter()
            .map(|(name, keys)| {
                ((*name).to_owned(), keys.iter().map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec())).collect())
            })
            .collect()
    }

    const LOGIN: (&str, &[(&str, &str)]) = ("login", &[("username", "u"), ("password", "")]);

    #[test]
    fn a_host_and_a_server_lead_to_the_same_address() {
        let server = MySQLServerSpec {
            host: "db".to_owned(),
            port: 3306,
            credentials_secret_ref: LocalReference { name: "login".to_owned() },
            tls: TlsSpec::default(),
            max_concurrent_migrations: 7,
            replicas: ReplicasSpec { hosts: vec!["db-2".to_owned()], ..ReplicasSpec::default() },
        };
        let by_reference = Target { server_ref: reference("primary"), ..Target::default() };
        let secrets = secrets(&[LOGIN]);
        let one = resolve(&direct(), None, &secrets).unwrap();
        let other = resolve(&by_reference, Some(&server), &secrets).unwrap();
        assert_eq!(one.address, other.address);
        assert_eq!((one.max_concurrent_migrations, other.max_concurrent_migrations), (2, 7));
        assert_eq!((one.replicas, other.replicas), (ReplicasSpec::default(), server.replicas));
        assert!(matches!(resolve(&by_reference, None, &secrets), Err(Error::ServerNotFound(name)) if name == "primary"));
    }

    #[test]
    fn what_is_missing_is_named() {
        for (given, message) in [
            (secrets(&[]), "the Secret login does not exist in this namespace: create it"),
            (secrets(&[("login", &[("password", "p")])]), "the Secret login has no usable key username: the key is missing"),
            (
                secrets(&[("login", &[("username", ""), ("password", "p")])]),
                "the Secret login has no usable key username: the value is empty",
            ),
            (secrets(&[("login", &[("username", "u")])]), "the Secret login has no usable key password: the key is missing"),
        ] {
            assert_eq!(resolve(&direct(), None, &given).unwrap_err().to_string(), message);
        }
        for target in
            [Target::default(), Target { server_ref: reference("a"), ..direct() }, Target { credentials_secret_ref: None, ..direct() }]
        {
            assert_eq!(resolve(&target, None, &secrets(&[LOGIN])).unwrap_err().reason(), Reason::InvalidSpec);
        }
    }

    #[test]
    fn tls_material_is_whole_or_refused() {
        let ca: &[(&str, &str)] = &[("ca.crt", "CA")];
        let pair: &[(&str, &str)] = &[("ca.crt", "CA"), ("tls.crt", "C"), ("tls.key", "K")];
        let half: &[(&str, &str)] = &[("tls.crt", "C")];
        for (mode, keys, fits) in [
            (ApiTlsMode::Required, None, true),
            (ApiTlsMode::VerifyCA, None, false),
            (ApiTlsMode::VerifyCA, Some(ca), true),
            (ApiTlsMode::VerifyIdentity, Some(pair), true),
            (ApiTlsMode::VerifyIdentity, Some(half), false),
            (ApiTlsMode::Required, Some(half), false),
            (ApiTlsMode::Disabled, Some(ca), true),
        ] {
            let target = Target { tls: Some(TlsSpec { mode, secret_ref: keys.and(reference("tls")) }), ..direct() };
            let found = resolve(&target, None, &secrets(&[LOGIN, ("tls", keys.unwrap_or_default())]));
            assert_eq!(found.is_ok(), fits, "{mode:?} {keys:?}: {found:?}");
        }
        let target = Target { tls: Some(TlsSpec { mode: ApiTlsMode::VerifyCA, secret_ref: reference("tls") }), ..direct() };
        let tls = resolve(&target, None, &secrets(&[LOGIN, ("tls", pair)])).unwrap().address.tls;
        assert_eq!(
            (tls.mode, tls.ca_pem, tls.client_identity),
            (TlsMode::VerifyCa, Some(b"CA".to_vec()), Some((b"C".to_vec(), b"K".to_vec())))
        );
    }
}
