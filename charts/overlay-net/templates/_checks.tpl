{{- /* Checks of values for which the schema has no helpful message. */ -}}
{{- define "overlay-net.checkValues" -}}
{{- include "overlay-net.checkPhpipam" . -}}
{{- include "overlay-net.checkOverlay" . -}}
{{- include "overlay-net.checkElection" . -}}
{{- include "overlay-net.checkServices" . -}}
{{- include "overlay-net.checkOnlyRelease" . -}}
{{- include "overlay-net.checkAccounts" . -}}
{{- include "overlay-net.checkPullSecrets" . -}}
{{- include "overlay-net.checkLabels" (list "commonLabels" .Values.commonLabels) -}}
{{- include "overlay-net.checkLabels" (list "controller.podLabels" .Values.controller.podLabels) -}}
{{- include "overlay-net.checkLabels" (list "agent.podLabels" .Values.agent.podLabels) -}}
{{- include "overlay-net.checkLabels" (list "hooks.podLabels" .Values.hooks.podLabels) -}}
{{- include "overlay-net.checkLabels" (list "metrics.labels" .Values.metrics.labels) -}}
{{- range $component := list "controller" "agent" -}}
{{- range (index $.Values $component).extraVolumes -}}
{{- if has .name (list "settings" "phpipam" "phpipam-ca" "sysctls" "boot-id" "state" "tmp") -}}
{{- fail (printf "%s.extraVolumes: the chart has a volume %s: choose another name" $component .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- range $key, $_ := .Values.hooks.podAnnotations -}}
{{- if hasPrefix "helm.sh/" $key -}}
{{- fail (printf "hooks.podAnnotations: the chart sets the annotation %s: remove it" $key) -}}
{{- end -}}
{{- end -}}
{{- include "overlay-net.checkSurge" . -}}
{{- include "overlay-net.checkPorts" . -}}
{{- include "overlay-net.checkEnv" . -}}
{{- include "overlay-net.checkExtraObjects" . -}}
{{- include "overlay-net.checkScrapes" . -}}
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics: enable either podMonitor or serviceMonitor: with both, everything would be scraped twice" -}}
{{- end -}}
{{- if dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "" (.Values.agent.affinity | default dict) -}}
{{- fail "agent.affinity: a required nodeAffinity is not allowed, because the controller would assign addresses to nodes without an agent: select the nodes by agent.nodeSelector and agent.excludeNodes" -}}
{{- end -}}
{{- if and .Values.podSecurity.labelNamespace (not (and .Values.hooks.enabled .Values.hooks.preflight)) -}}
{{- fail (printf "podSecurity.labelNamespace: true requires hooks.enabled=true and hooks.preflight=true: run kubectl label namespace %s pod-security.kubernetes.io/enforce=privileged" (include "overlay-net.namespace" .)) -}}
{{- end -}}
{{- if lt (include "overlay-net.seconds" .Values.hooks.imagePullTimeout | int) 1 -}}
{{- fail (printf "hooks.imagePullTimeout: %s: must be at least 1s" .Values.hooks.imagePullTimeout) -}}
{{- end -}}
{{- if and (not .Values.hooks.enabled) (not .Values.crds.keep) -}}
{{- fail "crds.keep: false requires hooks.enabled=true: a hook deletes the CustomResourceDefinitions" -}}
{{- end -}}
{{- end -}}

{{- /* Argument: a list of the name of a value and its labels. */ -}}
{{- define "overlay-net.checkLabels" -}}
{{- $name := first . -}}
{{- range $key := list "app.kubernetes.io/name" "app.kubernetes.io/instance" "app.kubernetes.io/component" "app.kubernetes.io/version" "app.kubernetes.io/managed-by" "helm.sh/chart" -}}
{{- if hasKey (last $ | default dict) $key -}}
{{- fail (printf "%s: the chart sets the label %s: remove it" $name $key) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The rollout would never end: two pods with one port of the node are not scheduled to it. */ -}}
{{- define "overlay-net.checkSurge" -}}
{{- $surge := dig "rollingUpdate" "maxSurge" 0 (.Values.agent.updateStrategy | default dict) | toString -}}
{{- if not (has $surge (list "0" "0%")) -}}
{{- fail (printf "agent.updateStrategy.rollingUpdate.maxSurge: %s: must be 0, because two agents cannot use the same port of a node" $surge) -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.checkPorts" -}}
{{- range $component := list "controller" "agent" -}}
{{- $port := include "overlay-net.port" (index $.Values $component).settings.http.bind | int -}}
{{- if or (lt $port 1) (gt $port 65535) -}}
{{- fail (printf "%s.settings.http.bind: port %d: must be from 1 to 65535" $component $port) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* Of two variables of one name, an upgrade may keep either. */ -}}
{{- define "overlay-net.checkEnv" -}}
{{- $env := dict "controller" (include "overlay-net.controllerEnv" .) "agent" (include "overlay-net.agentEnv" .) -}}
{{- range $component, $own := $env -}}
{{- $names := list -}}
{{- range fromYamlArray $own -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- range (index $.Values $component).extraEnv -}}
{{- if has .name $names -}}
{{- fail (printf "%s.extraEnv: the chart sets the variable %s: remove it" $component .name) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.checkExtraObjects" -}}
{{- range $index, $given := .Values.extraObjects -}}
{{- $text := include "overlay-net.extraObject" (dict "root" $ "object" $given) -}}
{{- $object := fromYaml $text -}}
{{- if and (trim $text) (not (and $object.apiVersion $object.kind)) -}}
{{- fail (printf "extraObjects[%d]: a text must be the YAML of an object with apiVersion and kind, or nothing" $index) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- /* The Prometheus operator ignores such monitors, with a message in its log only. */ -}}
{{- define "overlay-net.checkScrapes" -}}
{{- range $name := list "podMonitor" "serviceMonitor" -}}
{{- $monitor := index $.Values.metrics $name -}}
{{- with $monitor.scrapeTimeout -}}
{{- if gt (include "overlay-net.seconds" . | float64) (include "overlay-net.seconds" $monitor.interval | float64) -}}
{{- fail (printf "metrics.%s.scrapeTimeout: %s exceeds the interval %s" $name . $monitor.interval) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.checkAccounts" -}}
{{- range $component := list "controller" "agent" -}}
{{- $account := (index $.Values $component).serviceAccount -}}
{{- if and (not $account.create) (not $account.name) -}}
{{- fail (printf "%s.serviceAccount.name is required with %s.serviceAccount.create=false" $component $component) -}}
{{- end -}}
{{- end -}}
{{- $name := include "overlay-net.account" (dict "root" . "component" "agent") -}}
{{- if eq $name (include "overlay-net.account" (dict "root" . "component" "controller")) -}}
{{- fail (printf "agent.serviceAccount.name: %s is also that of the controllers: an agent must not have their permissions" $name) -}}
{{- end -}}
{{- end -}}

{{- define "overlay-net.checkElection" -}}
{{- $election := .Values.controller.settings.leader_election | default dict -}}
{{- if and (gt (int .Values.controller.replicas) 1) (eq (toString $election.enabled) "false") -}}
{{- fail "controller.replicas: more than 1 requires controller.settings.leader_election.enabled=true" -}}
{{- end -}}
{{- $strategy := (.Values.controller.updateStrategy | default dict).type | default "Recreate" -}}
{{- if and (eq (toString $election.enabled) "false") (ne $strategy "Recreate") -}}
{{- fail (printf "controller.updateStrategy.type: %s requires controller.settings.leader_election.enabled=true: two controllers would revert each other's changes" $strategy) -}}
{{- end -}}
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
