//! Step 6: what is written to the API server: the status (server-side apply through `/status`, one owner), finalizers, deletions.
use crate::api::{FIELD_MANAGER, FINALIZER, SchemaMigration, SchemaMigrationStatus};
use crate::controller::fleet::entry::version;
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::{Api, Client, Resource};
use serde::Serialize;
use serde_json::json;
use std::time::Duration;

/// The API server answers in milliseconds; a visit that waits longer is better repeated.
const LIMIT: Duration = Duration::from_secs(10);

/// All namespaces, or one.
pub fn api<K>(client: &Client, namespace: Option<&str>) -> Api<K>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope>,
{
    match namespace {
        Some(namespace) => Api::namespaced(client.clone(), namespace),
        None => Api::all(client.clone()),
    }
}

/// A request to the API server that failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It was refused, or the connection failed.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was to be done.
        what: &'static str,
        /// The client's error.
        source: kube::Error,
    },
    /// No answer.
    #[error("cannot {0}: no answer within {LIMIT:?}")]
    TimedOut(&'static str),
}

impl Error {
    /// The object is not there any more.
    fn is_gone(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.code == 404)
    }

    /// The object was changed by someone else in between.
    fn is_conflict(&self) -> bool {
        matches!(self, Error::Api { source: kube::Error::Api(status), .. } if status.code == 409 || status.code == 422)
    }
}

async fn bounded<T>(what: &'static str, request: impl Future<Output = Result<T, kube::Error>>) -> Result<T, Error> {
    match tokio::time::timeout(LIMIT, request).await {
        Ok(answer) => answer.map_err(|source| Error::Api { what, source }),
        Err(_) => Err(Error::TimedOut(what)),
    }
}

/// Writes a whole status. `force` is right because nobody else has business in it.
///
/// The UID goes with it, so that the status of a deleted object is never written to a new one of the same name. Returns the object's version.
///
/// # Errors
/// The API server refused it, or did not answer.
pub async fn status<K>(client: &Client, meta: &ObjectMeta, status: &impl Serialize) -> Result<Option<u64>, Error>
where
    K: Resource<DynamicType = (), Scope = NamespaceResourceScope> + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    let name = meta.name.as_deref().unwrap_or_default();
    // The raw bytes are not decoded: an object that this version cannot read can still be told so.
    let api: Api<kube::core::PartialObjectMeta<K>> = Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default());
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {"name": name, "uid": meta.uid},
        "status": status,
    });
    let params = PatchParams::apply(FIELD_MANAGER).force();
    let written = bounded("write the status", api.patch_status(name, &params, &Patch::Apply(body))).await?;
    Ok(version(&written.metadata))
}

/// Writes a migration's status.
///
/// # Errors
/// As [`status`].
pub async fn migration_status(client: &Client, meta: &ObjectMeta, value: &SchemaMigrationStatus) -> Result<Option<u64>, Error> {
    status::<SchemaMigration>(client, meta, value).await
}

fn migrations(client: &Client, meta: &ObjectMeta) -> Api<kube::core::PartialObjectMeta<SchemaMigration>> {
    Api::namespaced(client.clone(), meta.namespace.as_deref().unwrap_or_default())
}

/// Adds our finalizer, if it is not there.
///
/// # Errors
/// The API server refused it, did not answer, or someone changed the finalizers at the same time (the next visit tries again).
pub(super) async fn add_finalizer(client: &Client, meta: &ObjectMeta) -> Result<(), Error> {
    let mut finalizers = meta.finalizers.clone().unwrap_or_default();
    if finalizers.iter().any(|finalizer| finalizer == FINALIZER) {
        return Ok(());
    }
    finalizers.push(FINALIZER.to_owned());
    set_finalizers("add the finalizer", client, meta, &finalizers).await
}

/// Takes our finalizer away, so that the object can go. One that has gone already is fine.
///
/// # Errors
/// As [`add_finalizer`].
pub(super) async fn remove_finalizer(client: &Client, meta: &ObjectMeta) -> Result<(), Error> {
    let before = meta.finalizers.clone().unwrap_or_default();
    let after: Vec<String> = before.iter().filter(|finalizer| *finalizer != FINALIZER).cloned().collect();
    if after.len() == before.len() {
        return Ok(());
    }
    match set_finalizers("remove the finalizer", client, meta, &after).await {
        Err(error) if error.is_gone() => Ok(()),
        result => result,
    }
}

/// A merge patch replaces the list; the resource version makes it fail when someone else has changed the object since it was read.
async fn set_finalizers(what: &'static str, client: &Client, meta: &ObjectMeta, finalizers: &[String]) -> Result<(), Error> {
    let name = meta.name.as_deref().unwrap_or_default();
    let api = migrations(client, meta);
    let patch = |version: &Option<String>| json!({"metadata": {"uid": meta.uid, "resourceVersion": version, "finalizers": finalizers}});
    let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
    match bounded(what, api.patch(name, &params, &Patch::Merge(patch(&meta.resource_version)))).await {
        // Mostly our own status, written since: read the list afresh and try once more.
        Err(error) if error.is_conflict() => {
            let now = bounded(what, api.get_metadata(name)).await?.metadata;
            if now.uid != meta.uid || now.finalizers != meta.finalizers {
                return Err(error);
            }
            bounded(what, api.patch(name, &params, &Patch::Merge(patch(&now.resource_version)))).await.map(|_| ())
        }
        result => result.map(|_| ()),
    }
}

/// Deletes the object; one that has gone already is fine.
///
/// # Errors
/// The API server refused it, or did not answer.
pub async fn delete(client: &Client, meta: &ObjectMeta) -> Result<(), Error> {
    let name = meta.name.as_deref().unwrap_or_default();
    let params =
        DeleteParams { preconditions: Some(Preconditions { uid: meta.uid.clone(), resource_version: None }), ..DeleteParams::background() };
    match bounded("delete the object", migrations(client, meta).delete(name, &params)).await {
        Err(error) if error.is_gone() => Ok(()),
        result => result.map(|_| ()),
    }
}
