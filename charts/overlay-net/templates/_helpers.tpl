{{- define "overlay-net.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- /* Sets the defaults of values that the templates rely on and that may be missing: `helm upgrade --reuse-values` uses
the values of the previous chart, and `--set NAME=null` removes a value. Every template starts with it. */ -}}
{{- define "overlay-net.defaults" -}}
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
{{- /* An empty directory disables the checkpoint, so only a missing value gets the default. */ -}}
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

{{- /* A duration such as "4m" or "1h30m" in whole seconds. */ -}}
{{- define "overlay-net.seconds" -}}
{{- $total := 0.0 -}}
{{- $units := dict "ms" 0.001 "s" 1.0 "m" 60.0 "h" 3600.0 "d" 86400.0 -}}
{{- range regexFindAll "[0-9.]+(ms|s|m|h|d)" . -1 -}}
{{- $total = addf $total (mulf (regexFind "[0-9.]+" . | float64) (get $units (regexFind "[a-z]+" .))) -}}
{{- end -}}
{{- ceil $total -}}
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

{{- /* The host of a bind setting, for probes of a pod in the host network; empty means the address of the pod. */ -}}
{{- define "overlay-net.host" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
{{- end -}}

{{- define "overlay-net.livenessProbes" -}}
startupProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 2
  failureThreshold: 30
livenessProbe:
  httpGet: {path: /healthz, port: metrics}
  periodSeconds: 10
{{- end -}}

{{- /* Argument: the host to connect to; empty for the address of the pod. */ -}}
{{- define "overlay-net.readinessProbe" -}}
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

{{- /* The keys of the phpIPAM secret, as JSON. */ -}}
{{- define "overlay-net.phpipamKeys" -}}
{{- eq .Values.phpIPAM.auth "code" | ternary (list "code") (list "username" "password") | toJson -}}
{{- end -}}

{{- /* The ConfigMaps in kube-system that the subnets of services and pods are read from, as JSON. */ -}}
{{- define "overlay-net.protectedConfigMaps" -}}
{{- $names := list -}}
{{- if not .Values.controller.settings.service_subnets -}}
{{- $names = append $names "kubeadm-config" -}}
{{- end -}}
{{- if not .Values.controller.settings.pod_subnets -}}
{{- $names = append $names "cilium-config" -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- /* Kubernetes before 1.33 has no ServiceCIDRs, and only kubeadm stores the subnets of services elsewhere. */ -}}
{{- define "overlay-net.checkServices" -}}
{{- if and (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) (not .Values.controller.settings.service_subnets) -}}
{{- if not (lookup "v1" "ConfigMap" "kube-system" "kubeadm-config") -}}
{{- fail (printf "controller.settings.service_subnets is required: Kubernetes %s has no ServiceCIDRs to read the subnets of services from, and there is no ConfigMap kubeadm-config; set it to --service-cluster-ip-range of kube-apiserver, such as [10.96.0.0/12]" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The settings file of the controller. */ -}}
{{- define "overlay-net.controllerSettings" -}}
{{- include "overlay-net.checkPhpipam" . -}}
{{- include "overlay-net.checkOverlay" . -}}
{{- include "overlay-net.checkElection" . -}}
{{- include "overlay-net.checkServices" . -}}
{{- include "overlay-net.checkOnlyRelease" . -}}
{{- $settings := deepCopy .Values.controller.settings -}}
{{- $_ := set $settings "overlay_addresses" .Values.overlay.enabled -}}
{{- $_ := set $settings "node_selector" (include "overlay-net.agentNodes" .) -}}
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

{{- /* The nodes on which an agent runs, as a label selector. */ -}}
{{- define "overlay-net.agentNodes" -}}
{{- $parts := list -}}
{{- range $key, $value := .Values.agent.nodeSelector -}}
{{- $parts = append $parts (printf "%s=%s" $key $value) -}}
{{- end -}}
{{- range $key, $values := .Values.agent.excludeNodes -}}
{{- $parts = append $parts (printf "%s notin (%s)" $key (join "," $values)) -}}
{{- end -}}
{{- join "," $parts -}}
{{- end -}}

{{- /* The settings file of the agents. */ -}}
{{- define "overlay-net.agentSettings" -}}
{{- $settings := deepCopy .Values.agent.settings -}}
{{- if not .Values.overlay.enabled -}}
{{- $_ := set $settings "link_mode" "none" -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{- /* overlay.enabled alone decides whether nodes get addresses; values that contradict it are rejected. */ -}}
{{- define "overlay-net.checkOverlay" -}}
{{- $mode := .Values.agent.settings.link_mode -}}
{{- if .Values.overlay.enabled -}}
{{- if eq ($mode | default "") "none" -}}
{{- fail "agent.settings.link_mode: none disables overlay addresses: set overlay.enabled=false instead" -}}
{{- end -}}
{{- else -}}
{{- $why := "not allowed with overlay.enabled=false" -}}
{{- if .Values.pools -}}
{{- fail (printf "pools: %s: remove %s" $why (keys .Values.pools | sortAlpha | join ", ")) -}}
{{- end -}}
{{- if .Values.phpIPAM.subnetMap -}}
{{- fail (printf "phpIPAM.subnetMap: %s: remove the map" $why) -}}
{{- end -}}
{{- if and $mode (ne $mode "none") -}}
{{- fail (printf "agent.settings.link_mode: %s %s: remove it, or set none" $mode $why) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.lease" -}}
{{ include "overlay-net.fullname" . }}-controller
{{- end -}}

{{- /* What the Lease of the cluster has as holder while this release manages it. */ -}}
{{- define "overlay-net.releaseIdentity" -}}
{{ .Release.Namespace }}/{{ include "overlay-net.lease" . }}
{{- end -}}

{{- define "overlay-net.readClusterLease" -}}
- apiGroups: [coordination.k8s.io]
  resources: [leases]
  resourceNames: [overlay-net]
  verbs: [get]
{{- end -}}

{{- /* Only one release can manage the nodes of a cluster; a second one would be on standby. `helm template` has no access to
the cluster, and the Lease of a release that is gone is no longer renewed. */ -}}
{{- define "overlay-net.checkOnlyRelease" -}}
{{- if .Release.IsInstall -}}
{{- $spec := (lookup "coordination.k8s.io/v1" "Lease" "kube-system" "overlay-net").spec | default dict -}}
{{- $holder := $spec.holderIdentity | default "" -}}
{{- if and $holder (ne $holder (include "overlay-net.releaseIdentity" .)) $spec.renewTime -}}
{{- $age := sub (now | unixEpoch) (toDate "2006-01-02T15:04:05Z07:00" (regexReplaceAll "[.][0-9]+" $spec.renewTime "") | unixEpoch) -}}
{{- if lt $age (int64 $spec.leaseDurationSeconds) -}}
{{- fail (printf "release %s manages this cluster (Lease overlay-net in kube-system): uninstall it first; only one release of overlay-net can manage a cluster" $holder) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.checkElection" -}}
{{- $election := .Values.controller.settings.leader_election | default dict -}}
{{- if and (gt (int .Values.controller.replicas) 1) (eq (toString $election.enabled) "false") -}}
{{- fail "controller.replicas: more than 1 requires controller.settings.leader_election.enabled=true" -}}
{{- end -}}
{{- end -}}

{{- /* Checks for which the schema has no helpful message. */ -}}
{{- define "overlay-net.checkPhpipam" -}}
{{- $given := .Values.phpIPAM -}}
{{- if $given.url -}}
{{- if and $given.existingSecret $given.credentials -}}
{{- fail "phpIPAM: set either existingSecret or credentials, not both" -}}
{{- end -}}
{{- if $given.credentials -}}
{{- $keys := include "overlay-net.phpipamKeys" . | fromJsonArray -}}
{{- if ne ($keys | sortAlpha | toJson) (keys $given.credentials | sortAlpha | toJson) -}}
{{- fail (printf "phpIPAM.credentials: auth %s requires the keys %s" $given.auth (join " and " $keys)) -}}
{{- end -}}
{{- end -}}
{{- else -}}
{{- range $name := list "appID" "subnetMap" "existingSecret" "credentials" "caConfigMap" "settings" -}}
{{- if get $given $name -}}
{{- fail (printf "phpIPAM.%s requires phpIPAM.url" $name) -}}
{{- end -}}
{{- end -}}
{{- range $name, $pool := .Values.pools -}}
{{- if $pool.phpIPAM -}}
{{- fail (printf "pools.%s.phpIPAM requires phpIPAM.url" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Common part of the pods of the controllers and of the jobs, which are not bound to a node. */ -}}
{{- define "overlay-net.plainPod" -}}
# Service links would add OVERLAY_... variables to the environment, which are read as settings.
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

{{- /* Common part of their containers, without resources. */ -}}
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

{{- /* Labels and annotations of the objects of a hook. Argument: a dict of root, component, hook and weight. */ -}}
{{- define "overlay-net.hook" -}}
labels:
  {{- include "overlay-net.labels" .root | nindent 2 }}
  app.kubernetes.io/component: {{ .component }}
annotations:
  helm.sh/hook: {{ .hook }}
  helm.sh/hook-weight: {{ .weight | quote }}
  # A failed job is kept, so that its log can be read; helm prints the log as well.
  helm.sh/hook-delete-policy: before-hook-creation,hook-succeeded
  helm.sh/hook-output-log-policy: hook-failed
{{- end -}}

{{- /* A service account with one ClusterRole, for a hook. Argument: the dict of overlay-net.hook, plus rules. */ -}}
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
