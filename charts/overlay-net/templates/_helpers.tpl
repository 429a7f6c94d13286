{{- define "overlay-net.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
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
{{- include "overlay-net.checkElection" . -}}
{{- $settings := deepCopy .Values.controller.settings -}}
{{- $election := $settings.leader_election | default dict -}}
{{- $_ := set $settings "leader_election" (merge (dict "lease_name" (include "overlay-net.lease" .)) $election) -}}
{{- with .Values.phpIPAM -}}
{{- if .url -}}
{{- $section := pick . "url" "appID" "subnetMap" "insecureSkipTLSVerify" "auth" -}}
{{- $_ := set $section "credentials_dir" "/etc/overlay-net-phpipam" -}}
{{- if .caConfigMap -}}
{{- $_ := set $section "ca_file" "/etc/overlay-net-phpipam-ca/ca.crt" -}}
{{- end -}}
{{- $_ := set $settings "phpIPAM" (merge $section .settings) -}}
{{- end -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- define "overlay-net.lease" -}}
{{ include "overlay-net.fullname" . }}-controller
{{- end -}}

{{- define "overlay-net.checkElection" -}}
{{- $election := .Values.controller.settings.leader_election | default dict -}}
{{- if and (gt (int .Values.controller.replicas) 1) (eq (get $election "enabled") false) -}}
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
