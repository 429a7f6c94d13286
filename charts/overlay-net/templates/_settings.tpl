{{- /* The settings file of the controller. */ -}}
{{- define "overlay-net.controllerSettings" -}}
{{- include "overlay-net.checkValues" . -}}
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

{{- /* The settings file of the agents. */ -}}
{{- define "overlay-net.agentSettings" -}}
{{- $settings := deepCopy .Values.agent.settings -}}
{{- if not .Values.overlay.enabled -}}
{{- $_ := set $settings "link_mode" "none" -}}
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

{{- /* The port of a bind setting such as ":8080" or "[::1]:8080". */ -}}
{{- define "overlay-net.port" -}}
{{- regexFind "[0-9]+$" . -}}
{{- end -}}

{{- /* The host of a bind setting, for probes of a pod in the host network; empty means the address of the pod. */ -}}
{{- define "overlay-net.host" -}}
{{- regexReplaceAll ":[0-9]+$" . "" | trimPrefix "[" | trimSuffix "]" -}}
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
