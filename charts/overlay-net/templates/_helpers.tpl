{{- define "overlay-net.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Fills in what the templates rely on and the values may lack: `helm upgrade --reuse-values` brings those of the
earlier chart, and `--set NAME=null` removes one. Every template begins with it. */ -}}
{{- define "overlay-net.fill" -}}
{{- range $name := list "image" "crds" "admissionPolicy" "uninstall" "overlay" "phpIPAM" "pools" "controller" "agent" "test" -}}
{{- $_ := set $.Values $name (index $.Values $name | default dict) -}}
{{- end -}}
{{- range $part, $port := dict "controller" ":8080" "agent" ":9477" -}}
{{- $settings := index $.Values $part "settings" | default dict -}}
{{- $http := $settings.http | default dict -}}
{{- $_ := set $http "bind" ($http.bind | default $port) -}}
{{- $_ := set $settings "http" $http -}}
{{- $_ := set (index $.Values $part) "settings" $settings -}}
{{- end -}}
{{- $image := .Values.image -}}
{{- $_ := set $image "repository" ($image.repository | default "overlay-net") -}}
{{- $_ := set $image "pullPolicy" ($image.pullPolicy | default "IfNotPresent") -}}
{{- $_ := set .Values.controller "replicas" (.Values.controller.replicas | default 2) -}}
{{- $_ := set .Values.controller.settings "fence_after" (.Values.controller.settings.fence_after | default "10m") -}}
{{- /* An empty directory is a choice. */ -}}
{{- if kindIs "invalid" .Values.agent.settings.state_dir -}}
{{- $_ := set .Values.agent.settings "state_dir" "/var/lib/overlay-net" -}}
{{- end -}}
{{- range $section, $switch := dict "overlay" "enabled" "crds" "apply" "admissionPolicy" "enabled" -}}
{{- if kindIs "invalid" (index $.Values $section $switch) -}}
{{- $_ := set (index $.Values $section) $switch true -}}
{{- end -}}
{{- end -}}
{{- if kindIs "invalid" .Values.crds.keep -}}
{{- $_ := set .Values.crds "keep" true -}}
{{- end -}}
{{- $_ := set .Values.uninstall "timeout" (.Values.uninstall.timeout | default "4m") -}}
{{- $_ := set .Values.test "timeout" (.Values.test.timeout | default "60s") -}}
{{- $_ := set .Values.phpIPAM "auth" (.Values.phpIPAM.auth | default "token") -}}
{{- end -}}

{{- define "overlay-net.labels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "overlay-net.image" -}}
{{- if .Values.image.digest -}}
{{ .Values.image.repository }}@{{ .Values.image.digest }}
{{- else -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The port of a bind setting such as ":8080" or "[::1]:8080". */ -}}
{{- define "overlay-net.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{- /* The host of a bind setting, for probes of a pod in the node's network; empty: the pod's own address. */ -}}
{{- define "overlay-net.host" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- end -}}

{{- define "overlay-net.probes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics{{ with . }}, host: {{ . | quote }}{{ end }}}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics{{ with . }}, host: {{ . | quote }}{{ end }}}
  periodSeconds: 10
readinessProbe:
  httpGet: {path: /readyz, port: metrics{{ with . }}, host: {{ . | quote }}{{ end }}}
  periodSeconds: 5
{{- end -}}

{{- define "overlay-net.phpipamSecret" -}}
{{- if .Values.phpIPAM.credentials -}}
{{ include "overlay-net.fullname" . }}-phpipam
{{- else -}}
{{ .Values.phpIPAM.existingSecret | default "phpipam-secret" }}
{{- end -}}
{{- end -}}

{{- /* The keys of the secret, as JSON. */ -}}
{{- define "overlay-net.phpipamKeys" -}}
{{- eq .Values.phpIPAM.auth "code" | ternary (list "code") (list "username" "password") | toJson -}}
{{- end -}}

{{- /* The controller's settings file. */ -}}
{{- define "overlay-net.controllerSettings" -}}
{{- include "overlay-net.checkPhpipam" . -}}
{{- include "overlay-net.checkOverlay" . -}}
{{- include "overlay-net.checkElection" . -}}
{{- $settings := deepCopy .Values.controller.settings -}}
{{- $_ := set $settings "overlay_addresses" .Values.overlay.enabled -}}
{{- $election := $settings.leader_election | default dict -}}
{{- $_ := set $settings "leader_election" (merge (dict "lease_name" (include "overlay-net.lease" .)) $election) -}}
{{- with .Values.phpIPAM -}}
{{- if .url -}}
{{- $section := pick . "url" "appID" "subnetMap" "insecureSkipTLSVerify" "auth" -}}
{{- $_ := set $section "credentials_dir" "/etc/overlay-net-phpipam" -}}
{{- if .caConfigMap -}}
{{- $_ := set $section "ca_file" "/etc/overlay-net-phpipam-ca/ca.crt" -}}
{{- end -}}
{{- $_ := set $settings "phpIPAM" (merge $section (.settings | default dict)) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- /* The agents' settings file. */ -}}
{{- define "overlay-net.agentSettings" -}}
{{- $settings := deepCopy .Values.agent.settings -}}
{{- if not .Values.overlay.enabled -}}
{{- $_ := set $settings "link_mode" "none" -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- /* One switch says whether nodes get addresses; nothing else may say otherwise. */ -}}
{{- define "overlay-net.checkOverlay" -}}
{{- $mode := .Values.agent.settings.link_mode -}}
{{- if .Values.overlay.enabled -}}
{{- if eq ($mode | default "") "none" -}}
{{- fail "agent.settings.link_mode: none means that no node gets an overlay address: set overlay.enabled=false" -}}
{{- end -}}
{{- else -}}
{{- $why := "overlay.enabled is false, so no node gets an overlay address" -}}
{{- if .Values.pools -}}
{{- fail (printf "pools: %s: remove %s" $why (keys .Values.pools | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if .Values.phpIPAM.subnetMap -}}
{{- fail (printf "phpIPAM.subnetMap: %s: remove the map" $why) -}}
{{- end -}}
{{- if and $mode (ne $mode "none") -}}
{{- fail (printf "agent.settings.link_mode: %s: leave %s out, or write none" $why $mode) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.lease" -}}
{{ include "overlay-net.fullname" . }}-controller
{{- end -}}

{{- define "overlay-net.checkElection" -}}
{{- $election := .Values.controller.settings.leader_election | default dict -}}
{{- if and (gt (int .Values.controller.replicas) 1) (eq (toString $election.enabled) "false") -}}
{{- fail "controller.replicas: more than 1 needs controller.settings.leader_election.enabled" -}}
{{- end -}}
{{- end -}}

{{- /* What the schema cannot say in words that help. */ -}}
{{- define "overlay-net.checkPhpipam" -}}
{{- $given := .Values.phpIPAM -}}
{{- if $given.url -}}
{{- if and $given.existingSecret $given.credentials -}}
{{- fail "phpIPAM: set existingSecret or credentials, not both" -}}
{{- end -}}
{{- if $given.credentials -}}
{{- $keys := include "overlay-net.phpipamKeys" . | fromJsonArray -}}
{{- if ne ($keys | sortAlpha | toJson) (keys $given.credentials | sortAlpha | toJson) -}}
{{- fail (printf "phpIPAM.credentials: with auth %s it has %s" $given.auth (join " and " $keys)) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- range $name := list "appID" "subnetMap" "existingSecret" "credentials" "caConfigMap" "settings" -}}
{{- if get $given $name -}}
{{- fail (printf "phpIPAM.%s is set, but not phpIPAM.url" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $pool := .Values.pools -}}
{{- if $pool.phpIPAM -}}
{{- fail (printf "pools.%s.phpIPAM needs phpIPAM.url" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* What the pods share that need no node of their own: the controllers', and those of the jobs. */ -}}
{{- define "overlay-net.plainPod" -}}
# Service links would put variables named OVERLAY_... into the environment.
enableServiceLinks: false
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.controller.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.controller.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Their containers, but for what these may use. */ -}}
{{- define "overlay-net.plainContainer" -}}
image: {{ include "overlay-net.image" . }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end -}}

{{- define "overlay-net.jobContainer" -}}
{{ include "overlay-net.plainContainer" . }}
resources:
  requests: {cpu: 10m, memory: 64Mi}
  limits: {memory: 256Mi}
{{- end -}}

{{- /* Labels and annotations of a hook's objects: a dict of root, component, hook and weight. */ -}}
{{- define "overlay-net.hook" -}}
labels:
  {{- include "overlay-net.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
annotations:
  helm.sh/hook: {{ .hook }}
  helm.sh/hook-weight: {{ .weight | quote }}
  # A failed one stays, so that its log can be read; helm shows it as well.
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  helm.sh/hook-output-log-policy: hook-failed
{{- end -}}

{{- /* A service account with one ClusterRole, for a hook: a dict as above, and rules. */ -}}
{{- define "overlay-net.hookAccount" -}}
{{- $name := printf "%s-%s" (include "overlay-net.fullname" .root) .component -}}
apiVersion: v1
kind: ServiceAccount
metadata:
  name: {{ $name }}
  namespace: {{ .root.Release.Namespace }}
  {{- include "overlay-net.hook" . | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata:
  name: {{ $name }}
  {{- include "overlay-net.hook" . | nindent 2 }}
rules:
  {{- .rules | nindent 2 }}
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
    namespace: {{ .root.Release.Namespace }}
{{- end -}}

{{- define "overlay-net.controllerEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end -}}

{{- define "overlay-net.controllerMounts" -}}
- {name: settings, mountPath: /etc/overlay-net, readOnly: true}
- {name: tmp, mountPath: /tmp}
{{- with .Values.phpIPAM }}
{{- if .url }}
# Whole directories: a single file (subPath) would not follow the secret's changes.
- {name: phpipam, mountPath: /etc/overlay-net-phpipam, readOnly: true}
{{- if .caConfigMap }}
- {name: phpipam-ca, mountPath: /etc/overlay-net-phpipam-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "overlay-net.controllerVolumes" -}}
- name: settings
  configMap: {name: {{ include "overlay-net.fullname" . }}-controller}
- name: tmp
  emptyDir: {}
{{- if .Values.phpIPAM.url }}
- name: phpipam
  secret:
    secretName: {{ include "overlay-net.phpipamSecret" . }}
    items:
      {{- range $key := include "overlay-net.phpipamKeys" . | fromJsonArray }}
      - {key: {{ $key }}, path: {{ $key }}}
      {{- end }}
{{- with .Values.phpIPAM.caConfigMap }}
- name: phpipam-ca
  configMap:
    name: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end }}
{{- end -}}
