{{- /* Checks of what values need in the cluster, to which `helm template` has no access. */ -}}

{{- /* The kubelet reports a missing secret only as an image that cannot be pulled. A secret that running controllers name as
well need not exist, nor one of extraObjects that is created before the pods. */ -}}
{{- define "overlay-net.checkPullSecrets" -}}
{{- $namespace := include "overlay-net.namespace" . -}}
{{- $known := list -}}
{{- $running := lookup "apps/v1" "Deployment" $namespace (printf "%s-controller" (include "overlay-net.fullname" .)) -}}
{{- range dig "spec" "template" "spec" "imagePullSecrets" list ($running | default dict) -}}
{{- $known = append $known .name -}}
{{- end -}}
{{- $late := list -}}
{{- range .Values.extraObjects -}}
{{- $object := include "overlay-net.extraObject" (dict "root" $ "object" .) | fromYaml -}}
{{- if eq (toString $object.kind) "Secret" -}}
{{- $metadata := $object.metadata | default dict -}}
{{- if and $.Values.hooks.enabled (not (hasKey ($metadata.annotations | default dict) "helm.sh/hook")) -}}
{{- $late = append $late $metadata.name -}}
{{- else -}}
{{- $known = append $known $metadata.name -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $secrets := include "overlay-net.pullSecrets" . | fromYamlArray -}}
{{- if and $secrets (lookup "v1" "Namespace" "" "kube-system") -}}
{{- range $secrets -}}
{{- if not (or (has .name $known) (lookup "v1" "Secret" $namespace .name)) -}}
{{- if has .name $late -}}
{{- fail (printf "imagePullSecrets: the Secret %s of extraObjects would be created after the first pods: annotate it with helm.sh/hook: pre-install,pre-upgrade and helm.sh/hook-weight: \"-40\", or create it first" .name) -}}
{{- end -}}
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
