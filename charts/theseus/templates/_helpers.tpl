{{- define "theseus.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{/* Cluster-scoped objects carry this name too: two releases of one name in two namespaces need fullnameOverride. */}}
{{- define "theseus.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- $name := include "theseus.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "theseus.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "theseus.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.name is needed when serviceAccount.create is false" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "theseus.selectorLabels" -}}
app.kubernetes.io/name: {{ include "theseus.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "theseus.labels" -}}
{{ include "theseus.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: theseus
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.labels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "theseus.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) }}
{{- end }}
{{- end }}

{{/* What the operator may do in each namespace that it watches. Every rule says what for. */}}
{{- define "theseus.operatorRules" -}}
# The objects themselves: read them, set or take away our finalizer, delete them when ttlAfterFinished says so.
- apiGroups: [theseus.dev]
  resources: [schemamigrations]
  verbs: [get, list, watch, patch, delete]
- apiGroups: [theseus.dev]
  resources: [mysqlservers]
  verbs: [get, list, watch]
# What happens, in status and conditions.
- apiGroups: [theseus.dev]
  resources: [schemamigrations/status, mysqlservers/status]
  verbs: [patch]
# Credentials and certificates named by an object, one by one: Secrets are never listed or watched.
- apiGroups: [""]
  resources: [secrets]
  verbs: [get]
# Events; a repeated one is patched.
- apiGroups: [events.k8s.io]
  resources: [events]
  verbs: [create, patch]
{{- end }}
