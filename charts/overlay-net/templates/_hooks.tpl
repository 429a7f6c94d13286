{{- /* The pod of a hook, without metadata and volumes: on the same nodes and as the same user as the controllers, but not
apart from other pods. */ -}}
{{- define "overlay-net.hookPod" -}}
{{- $place := include "overlay-net.controllerPlace" . | fromYaml }}
{{- include "overlay-net.beforeQuota" (dict "root" . "spec" $place) }}
{{- with (.Values.controller.affinity | default dict).nodeAffinity }}
affinity:
  nodeAffinity: {{- toYaml . | nindent 4 }}
{{- end }}
{{- end -}}

{{- /* The spec of a pod that is created before the quota that its priority class needs, which is part of the release. Argument:
a dict of root and spec. */ -}}
{{- define "overlay-net.beforeQuota" -}}
{{- $needed := and .root.Values.resourceQuota.enabled (hasPrefix "system-" (get .spec "priorityClassName")) -}}
{{- $needed | ternary (omit .spec "priorityClassName") .spec | toYaml -}}
{{- end -}}

{{- define "overlay-net.hookContainer" -}}
{{ include "overlay-net.container" (dict "root" . "values" .Values.controller) }}
{{- with .Values.hooks.resources }}
resources: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Labels and annotations of the objects of a hook. Argument: a dict of root, component, hook and weight. */ -}}
{{- define "overlay-net.hook" -}}
labels:
  {{- include "overlay-net.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
annotations: {{- include "overlay-net.hookAnnotations" . | nindent 2 }}
{{- end -}}

{{- define "overlay-net.hookAnnotations" -}}
helm.sh/hook: {{ .hook }}
helm.sh/hook-weight: {{ .weight | quote }}
# A failed job is kept, so that its log can be read; helm prints the log as well.
helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
helm.sh/hook-output-log-policy: hook-failed
{{- end -}}

{{- /* Labels and annotations of a Pod that is a hook. Argument: as above. */ -}}
{{- define "overlay-net.hookPodMetadata" -}}
{{- $annotations := include "overlay-net.hookAnnotations" . | fromYaml -}}
{{- include "overlay-net.podMetadata" (dict "root" .root "component" .component "values" .root.Values.hooks "annotations" $annotations) -}}
{{- end -}}

{{- define "overlay-net.hookServiceAccount" -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ include "overlay-net.fullname" .root }}-{{ .component }}
  namespace: {{ include "overlay-net.namespace" .root }}
  {{- include "overlay-net.hook" . | nindent 2 }}
{{- end -}}

{{- /* A service account with one ClusterRole, for a hook. Argument: the dict of overlay-net.hook, plus rules. */ -}}
{{- define "overlay-net.hookAccount" -}}
{{- $name := printf "%s-%s" (include "overlay-net.fullname" .root) .component -}}
{{ include "overlay-net.hookServiceAccount" . }}
{{- if .root.Values.rbac.create }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  {{- include "overlay-net.hook" . | nindent 2 }}
rules:
  {{- .rules | trim | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata:
  name: {{ $name }}
  {{- include "overlay-net.hook" . | nindent 2 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: ClusterRole
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ $name }}
    namespace: {{ include "overlay-net.namespace" .root }}
{{- end }}
{{- end -}}

{{- define "overlay-net.readClusterLease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [overlay-net]
  verbs: [get]
{{- end -}}
