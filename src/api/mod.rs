//! What people type and read: the custom resources, their annotations and conditions.
//!
//! Types and pure functions only: no tokio, no mysql, no Kubernetes client. The custom resource definitions under `crds/` are generated
//! from these types by `theseus crd`; a test holds the two together. A field is here only when this version acts on it: nothing is
//! accepted and ignored. Defaults, bounds and immutability live in the schema, so that the API server says no before anything runs.
//!
//! Rules of Kubernetes relied upon: CEL transition rules (`self == oldSelf`) run on updates only, after defaulting; the CEL cost
//! estimator multiplies by `maxLength`/`maxItems`, so every string is bounded; unsigned integer formats make the API server warn,
//! so integers are signed with a minimum.
//! <https://kubernetes.io/docs/tasks/extend-kubernetes/custom-resources/custom-resource-definitions/>
pub mod annotations;
pub mod bounds;
pub mod bytes;
pub mod conditions;
pub mod connection;
pub mod duration;
pub mod mysql_server;
pub mod schema_migration;
pub mod status;

pub use mysql_server::{MySQLServer, MySQLServerSpec, MySQLServerStatus};
pub use schema_migration::{SchemaMigration, SchemaMigrationSpec};
pub use status::SchemaMigrationStatus;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube::CustomResourceExt;

/// The API group.
pub const GROUP: &str = "theseus.dev";
/// The API version.
pub const VERSION: &str = "v1alpha1";
/// The owner of the fields that the operator writes with server-side apply.
pub const FIELD_MANAGER: &str = "theseus";
/// Keeps a migration's object until the tables it made are gone, or given up on.
pub const FINALIZER: &str = "theseus.dev/cleanup";

/// The custom resource definitions, by the name of the file under `crds/`.
pub fn custom_resource_definitions() -> Vec<(&'static str, CustomResourceDefinition)> {
    [("theseus.dev_mysqlservers.yaml", MySQLServer::crd()), ("theseus.dev_schemamigrations.yaml", SchemaMigration::crd())]
        .map(|(file, mut definition)| {
            for version in &mut definition.spec.versions {
                if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
                    without_null(schema);
                }
            }
            (file, definition)
        })
        .into()
}

/// Optional fields are absent, not null: the API server then prunes a null before CEL sees it, so that `has()` means what it says.
fn without_null(schema: &mut JSONSchemaProps) {
    schema.nullable = None;
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(without_null);
    match &mut schema.items {
        Some(JSONSchemaPropsOrArray::Schema(items)) => without_null(items),
        Some(JSONSchemaPropsOrArray::Schemas(items)) => items.iter_mut().for_each(without_null),
        None => {}
    }
    if let Some(JSONSchemaPropsOrBool::Schema(additional)) = &mut schema.additional_properties {
        without_null(additional);
    }
}
