{{- define "overlay-net.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}

{{- define "overlay-net.fullname" -}}
{{- $name := include "overlay-net.name" . -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains $name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.namespace" -}}
{{- .Values.namespaceOverride | default .Release.Namespace -}}
{{- end -}}

{{- /* What selects the objects of this release: beside other charts in one release, only name and instance together do. */ -}}
{{- define "overlay-net.identity" -}}
app.kubernetes.io/name: {{ include "overlay-net.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{- define "overlay-net.ownLabels" -}}
{{ include "overlay-net.identity" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- /* The labels of all objects. */ -}}
{{- define "overlay-net.labels" -}}
{{ include "overlay-net.ownLabels" . }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* The labels that select the pods of a component. They do not change with the version of the chart, which would restart
every pod. Argument: a dict of root and component. */ -}}
{{- define "overlay-net.selectorLabels" -}}
{{ include "overlay-net.identity" .root }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{- /* The selector of a Deployment or DaemonSet, which cannot be changed: one that exists keeps that of the chart that
created it, which also selects the pods of this chart. `helm template` has no access to the cluster. Argument: a dict of
root, component and kind. */ -}}
{{- define "overlay-net.workloadSelector" -}}
{{- $name := printf "%s-%s" (include "overlay-net.fullname" .root) .component -}}
{{- $existing := lookup "apps/v1" .kind (include "overlay-net.namespace" .root) $name -}}
{{- $labels := include "overlay-net.selectorLabels" . | fromYaml -}}
{{- $selector := dig "spec" "selector" "matchLabels" $labels ($existing | default dict) -}}
{{- $other := omit $selector "" -}}
{{- range $key, $value := $labels -}}
{{- if eq (get $selector $key) $value -}}
{{- $other = omit $other $key -}}
{{- end -}}
{{- end -}}
{{- empty $other | ternary $selector $labels | toYaml -}}
{{- end -}}

{{- /* The name of the service account of a component. Argument: a dict of root and component. */ -}}
{{- define "overlay-net.account" -}}
{{- $account := (index .root.Values .component).serviceAccount -}}
{{- $account.name | default (printf "%s-%s" (include "overlay-net.fullname" .root) .component) -}}
{{- end -}}

{{- define "overlay-net.lease" -}}
{{ include "overlay-net.fullname" . }}-controller
{{- end -}}

{{- /* What the Lease of the cluster has as holder while this release manages it. */ -}}
{{- define "overlay-net.releaseIdentity" -}}
{{ include "overlay-net.namespace" . }}/{{ include "overlay-net.lease" . }}
{{- end -}}
