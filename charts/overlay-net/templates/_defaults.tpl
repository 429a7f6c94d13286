{{- /* The values that the templates rely on and that may be missing: `helm upgrade --reuse-values` uses the values of the
previous chart, and `--set NAME=null` removes a value. They are those of values.yaml. */ -}}
{{- define "overlay-net.fallbacks" -}}
global.imageRegistry: ""
image.pullPolicy: IfNotPresent
hooks.enabled: true
hooks.preflight: true
hooks.imagePullTimeout: 25s
hooks.resources: {requests: {cpu: 10m, memory: 64Mi}, limits: {memory: 256Mi}}
crds.apply: true
crds.keep: true
admissionPolicy.enabled: true
rbac.create: true
rbac.aggregateView: true
rbac.aggregateEdit: false
podSecurity.labelNamespace: false
resourceQuota.enabled: false
resourceQuota.pods: 10000
openshift.enabled: false
overlay.enabled: true
phpIPAM.auth: token
pools: {}
controller.replicas: 2
controller.settings.http.bind: ":8080"
controller.settings.fence_after: 10m
controller.serviceAccount.create: true
controller.podSecurityContext: {runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
controller.securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
controller.podDisruptionBudget.enabled: true
controller.podDisruptionBudget.maxUnavailable: 1
controller.startupProbe: {periodSeconds: 2, failureThreshold: 30}
controller.livenessProbe: {periodSeconds: 10}
controller.readinessProbe: {periodSeconds: 5}
agent.settings.http.bind: ":9477"
# An empty directory disables the checkpoint, so only a missing value gets the default.
agent.settings.state_dir: /var/lib/overlay-net
agent.serviceAccount.create: true
agent.priorityClassName: system-node-critical
agent.updateStrategy: {rollingUpdate: {maxUnavailable: 10%}}
agent.podSecurityContext: {seccompProfile: {type: RuntimeDefault}}
agent.securityContext:
  runAsUser: 0
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL], add: [NET_ADMIN, NET_RAW]}
agent.readinessProbe: {periodSeconds: 5}
uninstall.timeout: 4m
test.timeout: 60s
metrics.scrapeAnnotations.enabled: false
metrics.service.enabled: false
metrics.serviceMonitor.enabled: false
metrics.serviceMonitor.interval: 30s
metrics.podMonitor.enabled: false
metrics.podMonitor.interval: 30s
metrics.prometheusRule.enabled: false
metrics.dashboard.enabled: false
metrics.networkPolicy.enabled: false
{{- end -}}

{{- /* Sets the missing ones. Every template starts with it. */ -}}
{{- define "overlay-net.defaults" -}}
{{- range $path, $default := include "overlay-net.fallbacks" . | fromYaml -}}
{{- $section := $.Values -}}
{{- $keys := splitList "." $path -}}
{{- range $key := initial $keys -}}
{{- if not (kindIs "map" (index $section $key)) -}}
{{- $_ := set $section $key dict -}}
{{- end -}}
{{- $section = index $section $key -}}
{{- end -}}
{{- if kindIs "invalid" (index $section (last $keys)) -}}
{{- $_ := set $section (last $keys) $default -}}
{{- end -}}
{{- end -}}
{{- end -}}
