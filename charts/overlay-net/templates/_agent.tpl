{{- /* The pods of the agents: metadata and spec. */ -}}
{{- define "overlay-net.agentPod" -}}
{{- $bind := .Values.agent.settings.http.bind -}}
{{- $security := .Values.agent.securityContext -}}
{{- if .Values.openshift.enabled -}}
{{- /* SELinux denies other types access to the sysctls and to the checkpoint, which are files of the node. */ -}}
{{- $security = merge (dict) $security (dict "seLinuxOptions" (dict "type" "spc_t")) -}}
{{- end -}}
metadata:
  {{- $metadata := dict "root" . "component" "agent" "values" .Values.agent "bind" $bind }}
  {{- $_ := set $metadata "annotations" (dict "checksum/settings" (include "overlay-net.agentSettings" . | sha256sum)) }}
  {{- include "overlay-net.podMetadata" $metadata | nindent 2 }}
spec:
  serviceAccountName: {{ include "overlay-net.account" (dict "root" . "component" "agent") }}
  # An account that the chart does not create may have it off.
  automountServiceAccountToken: true
  hostNetwork: true
  dnsPolicy: ClusterFirstWithHostNet
  {{- include "overlay-net.pod" (dict "root" . "values" .Values.agent) | nindent 2 }}
  {{- with .Values.agent.terminationGracePeriodSeconds }}
  terminationGracePeriodSeconds: {{ . }}
  {{- end }}
  containers:
    - name: agent
      {{- include "overlay-net.container" (dict "root" . "values" (dict "securityContext" $security)) | nindent 6 }}
      args: [agent, --config=/etc/overlay-net/config.yaml]
      env:
        {{- include "overlay-net.agentEnv" . | nindent 8 }}
        {{- with .Values.agent.extraEnv }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      ports:
        - {name: metrics, containerPort: {{ include "overlay-net.port" $bind }}}
      # No liveness probe: the agent ends itself if it is stuck, and must run even if its port is taken on the node.
      {{- $probe := dict "probe" .Values.agent.readinessProbe "path" "/readyz" "host" (include "overlay-net.host" $bind) }}
      readinessProbe: {{- include "overlay-net.probe" $probe | nindent 8 }}
      {{- with .Values.agent.resources }}
      resources: {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        - {name: settings, mountPath: /etc/overlay-net, readOnly: true}
        - {name: sysctls, mountPath: /host/proc/sys/net}
        - {name: boot-id, mountPath: /host/boot_id, readOnly: true}
        {{- with .Values.agent.settings.state_dir }}
        - {name: state, mountPath: {{ . | quote }}}
        {{- end }}
        - {name: tmp, mountPath: /tmp}
        {{- with .Values.agent.extraVolumeMounts }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
  volumes:
    - name: settings
      configMap: {name: {{ include "overlay-net.fullname" . }}-agent}
    - name: sysctls
      hostPath: {path: /proc/sys/net, type: Directory}
    - name: boot-id
      hostPath: {path: /proc/sys/kernel/random/boot_id, type: File}
    {{- with .Values.agent.settings.state_dir }}
    - name: state
      hostPath: {path: {{ . | quote }}, type: DirectoryOrCreate}
    {{- end }}
    - name: tmp
      emptyDir: {}
    {{- with .Values.agent.extraVolumes }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with include "overlay-net.agentAffinity" . | fromYaml }}
  affinity: {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{- /* agent.affinity, with the nodes that agent.excludeNodes excludes. */ -}}
{{- define "overlay-net.agentAffinity" -}}
{{- $affinity := deepCopy (.Values.agent.affinity | default dict) -}}
{{- $expressions := list -}}
{{- range $key, $values := .Values.agent.excludeNodes -}}
{{- $expressions = append $expressions (dict "key" $key "operator" "NotIn" "values" $values) -}}
{{- end -}}
{{- if $expressions -}}
{{- $required := dict "nodeSelectorTerms" (list (dict "matchExpressions" $expressions)) -}}
{{- $nodes := merge (dict "requiredDuringSchedulingIgnoredDuringExecution" $required) ($affinity.nodeAffinity | default dict) -}}
{{- $_ := set $affinity "nodeAffinity" $nodes -}}
{{- end -}}
{{- toYaml $affinity -}}
{{- end -}}

{{- define "overlay-net.agentEnv" -}}
- name: OVERLAY_NODE_NAME
  valueFrom: {fieldRef: {fieldPath: spec.nodeName}}
- name: OVERLAY_NODE_IP
  valueFrom: {fieldRef: {fieldPath: status.hostIP}}
# The checkpoint must expire before the controller may reassign the address.
- {name: OVERLAY_FENCE_AFTER, value: {{ .Values.controller.settings.fence_after | quote }}}
{{- if .Values.admissionPolicy.enabled }}
- name: OVERLAY_LEASE_NAMESPACE
  valueFrom: {fieldRef: {fieldPath: metadata.namespace}}
{{- end }}
# /proc/sys is read-only in an unprivileged container.
- {name: OVERLAY_PROC_SYS_NET, value: /host/proc/sys/net}
# On nodes that are LXC containers, the kubelet reports another boot id than a container sees in /proc.
- {name: OVERLAY_BOOT_ID_FILE, value: /host/boot_id}
# By default glibc raises this threshold after a large API response and then keeps megabytes of free memory.
- {name: MALLOC_TRIM_THRESHOLD_, value: "131072"}
# An agent trusts the CA of its service account only; an import of aiohttp loads those of the image, 2 MiB.
- {name: SSL_CERT_FILE, value: /dev/null}
{{- end -}}
