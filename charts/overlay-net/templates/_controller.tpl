{{- /* The pods of the controllers: metadata and spec. */ -}}
{{- define "overlay-net.controllerPod" -}}
{{- $values := .Values.controller -}}
metadata:
  {{- $metadata := dict "root" . "component" "controller" "values" $values "bind" $values.settings.http.bind }}
  {{- $_ := set $metadata "annotations" (dict "checksum/settings" (include "overlay-net.controllerSettings" . | sha256sum)) }}
  {{- include "overlay-net.podMetadata" $metadata | nindent 2 }}
spec:
  serviceAccountName: {{ include "overlay-net.account" (dict "root" . "component" "controller") }}
  automountServiceAccountToken: true
  {{- include "overlay-net.controllerPlace" . | nindent 2 }}
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
  {{- with include "overlay-net.controllerSpread" . | fromYamlArray }}
  topologySpreadConstraints: {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.affinity }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* By default, the failure of one node or zone must not affect all controllers. A constraint without a labelSelector, which
would count no pods, is about the controllers. */ -}}
{{- define "overlay-net.controllerSpread" -}}
{{- $spread := .Values.controller.topologySpreadConstraints | default list -}}
{{- if and (not $spread) (gt (int .Values.controller.replicas) 1) -}}
{{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" -}}
{{- $each := dict "maxSkew" 1 "topologyKey" $key "whenUnsatisfiable" "ScheduleAnyway" "matchLabelKeys" (list "pod-template-hash") -}}
{{- $spread = append $spread $each -}}
{{- end -}}
{{- end -}}
{{- $own := dict "matchLabels" (include "overlay-net.selectorLabels" (dict "root" . "component" "controller") | fromYaml) -}}
{{- $complete := list -}}
{{- range $spread -}}
{{- $complete = append $complete (hasKey . "labelSelector" | ternary . (set (deepCopy .) "labelSelector" $own)) -}}
{{- end -}}
{{- toYaml $complete -}}
{{- end -}}
