{{- /* Checks of values for which the schema has no helpful message, and of what they need in the cluster. */ -}}
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
{{- if and .Values.metrics.podMonitor.enabled .Values.metrics.serviceMonitor.enabled -}}
{{- fail "metrics: enable either podMonitor or serviceMonitor: with both, everything would be scraped twice" -}}
{{- end -}}
{{- if dig "nodeAffinity" "requiredDuringSchedulingIgnoredDuringExecution" "" (.Values.agent.affinity | default dict) -}}
{{- fail "agent.affinity: a required nodeAffinity is not allowed, because the controller would assign addresses to nodes without an agent: select the nodes by agent.nodeSelector and agent.excludeNodes" -}}
{{- end -}}
{{- if and .Values.podSecurity.labelNamespace (not (and .Values.hooks.enabled .Values.hooks.preflight)) -}}
{{- fail (printf "podSecurity.labelNamespace: true requires hooks.enabled=true and hooks.preflight=true: run kubectl label namespace %s pod-security.kubernetes.io/enforce=privileged" (include "overlay-net.namespace" .)) -}}
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

{{- /* The kubelet reports a missing secret only as an image that cannot be pulled. A secret that running controllers name as
well, and those of extraObjects, need not exist; `helm template` has no access to the cluster. */ -}}
{{- define "overlay-net.checkPullSecrets" -}}
{{- $namespace := include "overlay-net.namespace" . -}}
{{- $known := list -}}
{{- $running := lookup "apps/v1" "Deployment" $namespace (printf "%s-controller" (include "overlay-net.fullname" .)) -}}
{{- range dig "spec" "template" "spec" "imagePullSecrets" list ($running | default dict) -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- range .Values.extraObjects -}}
{{- $object := kindIs "string" . | ternary (printf "%v" . | fromYaml) . -}}
{{- if eq (toString $object.kind) "Secret" -}}
{{- $known = append $known (dig "metadata" "name" "" $object) -}}
{{- end -}}
{{- end -}}
{{- $secrets := include "overlay-net.pullSecrets" . | fromYamlArray -}}
{{- if and $secrets (lookup "v1" "Namespace" "" "kube-system") -}}
{{- range $secrets -}}
{{- if not (or (has .name $known) (lookup "v1" "Secret" $namespace .name)) -}}
{{- fail (printf "imagePullSecrets: there is no Secret %s in namespace %s: create it first (kubectl create secret docker-registry %s --namespace %s ...), or correct the name" .name $namespace .name $namespace) -}}
{{- end -}}
{{- end -}}
{{- end -}}
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

{{- /* Kubernetes before 1.33 has no ServiceCIDRs, and only kubeadm stores the subnets of services elsewhere. */ -}}
{{- define "overlay-net.checkServices" -}}
{{- if and (semverCompare "<1.33.0-0" .Capabilities.KubeVersion.Version) (not .Values.controller.settings.service_subnets) -}}
{{- if not (lookup "v1" "ConfigMap" "kube-system" "kubeadm-config") -}}
{{- fail (printf "controller.settings.service_subnets is required: Kubernetes %s has no ServiceCIDRs to read the subnets of services from, and there is no ConfigMap kubeadm-config; set it to --service-cluster-ip-range of kube-apiserver, such as [10.96.0.0/12]" .Capabilities.KubeVersion.Version) -}}
{{- end -}}
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
