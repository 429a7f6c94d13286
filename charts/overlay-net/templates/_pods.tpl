{{- define "overlay-net.image" -}}
{{- $image := .Values.image -}}
{{- if not $image.repository -}}
{{- fail "image.repository is required: build the image (nox -s image), push it to your registry, and add --set image.repository=REGISTRY/overlay-net" -}}
{{- end -}}
{{- with .Values.global.imageRegistry | default $image.registry -}}
{{ trimSuffix "/" . }}/
{{- end -}}
{{- $image.repository -}}
{{- if $image.digest -}}
@{{ $image.digest }}
{{- else -}}
:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end -}}

{{- /* The secrets for pulling the image, as a list of {name: NAME}. */ -}}
{{- define "overlay-net.pullSecrets" -}}
{{- $secrets := list -}}
{{- range concat (.Values.imagePullSecrets | default list) (.Values.global.imagePullSecrets | default list) -}}
{{- $secrets = append $secrets (kindIs "string" . | ternary (dict "name" .) .) -}}
{{- end -}}
{{- $secrets | uniq | toYaml -}}
{{- end -}}

{{- /* Metadata of the pods of a component. Argument: a dict of root, component, values (of the component), and optionally
annotations and bind (the address that metrics are served on). */ -}}
{{- define "overlay-net.podMetadata" -}}
{{- $annotations := omit (.annotations | default dict) "" -}}
{{- if and .bind .root.Values.metrics.scrapeAnnotations.enabled -}}
{{- $_ := set $annotations "prometheus.io/scrape" "true" -}}
{{- $_ := set $annotations "prometheus.io/port" (include "overlay-net.port" .bind) -}}
{{- $_ := set $annotations "prometheus.io/path" "/metrics" -}}
{{- end -}}
labels:
  {{- include "overlay-net.selectorLabels" . | nindent 2 }}
  {{- with merge (dict) (.values.podLabels | default dict) (.root.Values.commonLabels | default dict) }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with merge (dict) (.values.podAnnotations | default dict) $annotations }}
annotations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* Common part of all pods. Argument: a dict of root, values (of the component), and optionally nodeSelector: labels of
nodes that the values do not name. */ -}}
{{- define "overlay-net.pod" -}}
# Service links would add OVERLAY_... variables to the environment, which are read as settings.
enableServiceLinks: false
{{- with include "overlay-net.pullSecrets" .root | fromYamlArray }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .values.podSecurityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with merge (dict) (.values.nodeSelector | default dict) (.nodeSelector | default dict) }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* The same of the pods of controllers and hooks, which may not get to the Windows nodes of a cluster. */ -}}
{{- define "overlay-net.controllerPlace" -}}
{{- include "overlay-net.pod" (dict "root" . "values" .Values.controller "nodeSelector" (dict "kubernetes.io/os" "linux")) -}}
{{- end -}}

{{- /* Common part of all containers. Argument: a dict of root and values (of the component). */ -}}
{{- define "overlay-net.container" -}}
image: {{ include "overlay-net.image" .root }}
imagePullPolicy: {{ .root.Values.image.pullPolicy }}
# For `kubectl describe pod` and tools that show the state of a pod: why it ended.
terminationMessagePolicy: FallbackToLogsOnError
{{- with .values.securityContext }}
securityContext: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- /* A probe of the port "metrics". Argument: a dict of probe (its values), path, and host: the host to connect to, empty
for the address of the pod. */ -}}
{{- define "overlay-net.probe" -}}
httpGet: {path: {{ .path }}, port: metrics{{ with .host }}, host: {{ . | quote }}{{ end }}}
{{- with .probe }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "overlay-net.controllerEnv" -}}
- name: POD_NAME
  valueFrom: {fieldRef: {fieldPath: metadata.name}}
- name: POD_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end -}}

{{- define "overlay-net.controllerMounts" -}}
- {name: settings, mountPath: /etc/overlay-net, readOnly: true}
{{- with .Values.phpIPAM }}
{{- if .url }}
# Mount whole directories: a single file (subPath) is not updated when the secret changes.
- {name: phpipam, mountPath: /etc/overlay-net-phpipam, readOnly: true}
{{- if .caConfigMap }}
- {name: phpipam-ca, mountPath: /etc/overlay-net-phpipam-ca, readOnly: true}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{- /* Volumes of a controller. Argument: a dict of root, settings (name of the ConfigMap), secret (of phpIPAM) and optional:
whether the pod starts without what users provide. */ -}}
{{- define "overlay-net.controllerVolumes" -}}
{{- $optional := .optional -}}
- name: settings
  configMap: {name: {{ .settings }}}
{{- if .root.Values.phpIPAM.url }}
- name: phpipam
  secret:
    secretName: {{ .secret }}
    {{- if $optional }}
    optional: true
    {{- end }}
    items:
      {{- range $key := include "overlay-net.phpipamKeys" .root | fromJsonArray }}
      - {key: {{ $key }}, path: {{ $key }}}
      {{- end }}
{{- with .root.Values.phpIPAM.caConfigMap }}
- name: phpipam-ca
  configMap:
    name: {{ . }}
    {{- if $optional }}
    optional: true
    {{- end }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- end }}
{{- end -}}
