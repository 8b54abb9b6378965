//! Theseus: online schema changes for MySQL as Kubernetes resources.
