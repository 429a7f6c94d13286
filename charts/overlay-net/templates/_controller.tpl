{{- /* The pods of the controllers: metadata and spec. */ -}}
{{- define "overlay-net.controllerPod" -}}
{{- $values := .Values.controller -}}
metadata:
  {{- $metadata := dict "root" . "component" "controller" "values" $values "bind" $values.settings.http.bind }}
  {{- $_ := set $metadata "annotations" (dict "checksum/settings" (include "overlay-net.controllerSettings" . | sha256sum)) }}
  {{- include "overlay-net.podMetadata" $metadata | nindent 2 }}
spec:
  serviceAccountName: {{ include "overlay-net.account" (dict "root" . "component" "controller") }}
  {{- include "overlay-net.pod" (dict "root" . "values" $values) | nindent 2 }}
  {{- with $values.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  containers:
    - name: controller
      {{- include "overlay-net.container" (dict "root" . "values" $values) | nindent 6 }}
      args: [controller, --config=/etc/overlay-net/config.yaml]
      env:
        {{- include "overlay-net.controllerEnv" . | nindent 8 }}
        {{- with $values.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: metrics, containerPort: {{ include "overlay-net.port" $values.settings.http.bind }}}
      startupProbe: {{- include "overlay-net.probe" (dict "probe" $values.startupProbe "path" "/healthz") | nindent 8 }}
      livenessProbe: {{- include "overlay-net.probe" (dict "probe" $values.livenessProbe "path" "/healthz") | nindent 8 }}
      readinessProbe: {{- include "overlay-net.probe" (dict "probe" $values.readinessProbe "path" "/readyz") | nindent 8 }}
      {{- with $values.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "overlay-net.controllerMounts" . | nindent 8 }}
        {{- with $values.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  {{- $volumes := dict "root" . "settings" (printf "%s-controller" (include "overlay-net.fullname" .)) }}
  {{- $_ := set $volumes "secret" (include "overlay-net.phpipamSecret" .) }}
  volumes:
    {{- include "overlay-net.controllerVolumes" $volumes | nindent 4 }}
    {{- with $values.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with $values.topologySpreadConstraints }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- else }}
  {{- if gt (int $values.replicas) 1 }}
  # The failure of one node or zone must not affect all controllers.
  topologySpreadConstraints:
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      matchLabelKeys: [pod-template-hash]
      labelSelector:
        matchLabels: {{- include "overlay-net.selectorLabels" (dict "root" $ "component" "controller") | nindent 10 }}
    {{- end }}
  {{- end }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}
