{{- define "slicewatch.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "slicewatch.fullname" -}}
{{- $name := include "slicewatch.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "slicewatch.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "slicewatch.serviceAccountName" -}}
{{- if (.Values.serviceAccount).create }}
{{- default (include "slicewatch.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" (.Values.serviceAccount).name }}
{{- end }}
{{- end }}

{{/* What the selectors say: immutable, so nothing else may ever go in here. */}}
{{- define "slicewatch.selectorLabels" -}}
app.kubernetes.io/name: {{ include "slicewatch.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "slicewatch.versionLabels" -}}
app.kubernetes.io/version: {{ default .Chart.AppVersion (.Values.image).tag | trunc 63 | quote }}
app.kubernetes.io/component: agent
{{- end }}

{{/* Labels of an object's metadata; those of the chart win. */}}
{{- define "slicewatch.labels" -}}
{{- $own := dict "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_") "app.kubernetes.io/managed-by" .Release.Service }}
{{- $own = merge $own (include "slicewatch.selectorLabels" . | fromYaml) (include "slicewatch.versionLabels" . | fromYaml) }}
{{- toYaml (merge $own (default dict .Values.commonLabels)) }}
{{- end }}

{{/* Labels of the pods. The first dict wins: podLabels cannot replace what the selector uses. */}}
{{- define "slicewatch.podLabels" -}}
{{- $own := merge (include "slicewatch.selectorLabels" . | fromYaml) (include "slicewatch.versionLabels" . | fromYaml) }}
{{- toYaml (merge $own (default dict .Values.podLabels) (default dict .Values.commonLabels)) }}
{{- end }}

{{/* The Deployment of `slicewatch check --watch`. Its name is another than the agents', whose selectors,
immutable in the DaemonSet, know no component: they would take its pod for an agent. */}}
{{- define "slicewatch.checkName" -}}
{{- include "slicewatch.name" . | trunc 57 | trimSuffix "-" }}-check
{{- end }}

{{- define "slicewatch.checkFullname" -}}
{{- include "slicewatch.fullname" . | trunc 57 | trimSuffix "-" }}-check
{{- end }}

{{/* Immutable, as the agents'. */}}
{{- define "slicewatch.checkSelectorLabels" -}}
app.kubernetes.io/name: {{ include "slicewatch.checkName" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "slicewatch.checkPodLabels" -}}
{{- $own := include "slicewatch.checkSelectorLabels" . | fromYaml }}
{{- $_ := set $own "app.kubernetes.io/component" "check" }}
{{- toYaml (merge $own (include "slicewatch.versionLabels" . | fromYaml) (default dict .Values.commonLabels)) }}
{{- end }}

{{- define "slicewatch.checkLabels" -}}
{{- toYaml (merge (include "slicewatch.checkPodLabels" . | fromYaml) (include "slicewatch.labels" . | fromYaml)) }}
{{- end }}

{{- define "slicewatch.image" -}}
{{- $image := default dict .Values.image }}
{{- $repository := default "localhost/slicewatch" $image.repository }}
{{- if $image.digest }}
{{- printf "%s@%s" $repository $image.digest }}
{{- else }}
{{- printf "%s:%s" $repository (default .Chart.AppVersion $image.tag) }}
{{- end }}
{{- end }}

{{- define "slicewatch.nvmlMode" -}}
{{- default "runtimeclass" (.Values.nvml).mode }}
{{- end }}

{{/* YAML reads a bare off as false. */}}
{{- define "slicewatch.canaryMode" -}}
{{- $mode := (.Values.canary).mode }}
{{- if kindIs "bool" $mode }}off
{{- else }}{{ default "auto" $mode }}
{{- end }}
{{- end }}

{{/* CUDA is for the canary alone. */}}
{{- define "slicewatch.driverCapabilities" -}}
{{- $without := ternary "utility" "compute,utility" (eq (include "slicewatch.canaryMode" .) "off") }}
{{- default $without (.Values.nvml).driverCapabilities }}
{{- end }}

{{/* The web configuration as YAML: the values', with the certificate of tlsSecret where they name none. */}}
{{- define "slicewatch.webConfig" -}}
{{- $web := default dict .Values.web }}
{{- $config := deepCopy (default dict $web.config) }}
{{- if and $web.tlsSecret (not (hasKey $config "tls_server_config")) }}
{{- $_ := set $config "tls_server_config" (dict "cert_file" "/etc/slicewatch/tls/tls.crt" "key_file" "/etc/slicewatch/tls/tls.key") }}
{{- end }}
{{- if $config }}
{{- toYaml $config }}
{{- end }}
{{- end }}

{{/* Name of the Secret with the web configuration, empty for plain HTTP. */}}
{{- define "slicewatch.webSecret" -}}
{{- if (.Values.web).configSecret }}
{{- .Values.web.configSecret }}
{{- else if include "slicewatch.webConfig" . }}
{{- printf "%s-web" (include "slicewatch.fullname" .) }}
{{- end }}
{{- end }}

{{- define "slicewatch.scheme" -}}
{{- $config := include "slicewatch.webConfig" . | fromYaml }}
{{- if (.Values.web).scheme }}
{{- .Values.web.scheme }}
{{- else if hasKey $config "tls_server_config" }}https
{{- else }}http
{{- end }}
{{- end }}

{{/* The kubelet has no client certificate: it can but see that the port is open. The health paths need no
password. */}}
{{- define "slicewatch.probe" -}}
{{- $config := include "slicewatch.webConfig" . | fromYaml }}
{{- $type := dig "tls_server_config" "client_auth_type" "" $config }}
{{- if (.Values.web).probe }}
{{- .Values.web.probe }}
{{- else if has $type (list "RequireAnyClientCert" "RequireAndVerifyClientCert") }}tcp
{{- else }}http
{{- end }}
{{- end }}

{{/* A probe's handler: takes the root and a path. */}}
{{- define "slicewatch.probeHandler" -}}
{{- if eq (include "slicewatch.probe" .root) "tcp" -}}
tcpSocket:
  port: metrics
{{- else -}}
httpGet:
  path: {{ .path }}
  port: metrics
  {{- if eq (include "slicewatch.scheme" .root) "https" }}
  scheme: HTTPS
  {{- end }}
{{- end }}
{{- end }}

{{/* The container's security context: the values', with what the way to NVML or MIG asks for. */}}
{{- define "slicewatch.securityContext" -}}
{{- $context := deepCopy (default dict .Values.securityContext) }}
{{- if eq (include "slicewatch.nvmlMode" .) "gke" }}
{{- /* Kubernetes refuses allowPrivilegeEscalation: false beside privileged. */}}
{{- $context = merge (dict "privileged" true) (omit $context "allowPrivilegeEscalation" "capabilities") }}
{{- else if (.Values.nvml).migMonitor }}
{{- $capabilities := default dict $context.capabilities }}
{{- $_ := set $capabilities "add" (append (default list $capabilities.add) "SYS_ADMIN" | uniq) }}
{{- $_ := set $context "capabilities" $capabilities }}
{{- end }}
{{- toYaml $context }}
{{- end }}

{{- define "slicewatch.affinity" -}}
{{- if .Values.affinity }}
{{- toYaml .Values.affinity }}
{{- else -}}
nodeAffinity:
  requiredDuringSchedulingIgnoredDuringExecution:
    nodeSelectorTerms:
      {{- if eq (include "slicewatch.nvmlMode" .) "gke" }}
      - matchExpressions:
          - key: cloud.google.com/gke-accelerator
            operator: Exists
      {{- else }}
      - matchExpressions:
          - key: nvidia.com/gpu.present
            operator: In
            values: ["true"]
      - matchExpressions:
          - key: feature.node.kubernetes.io/pci-10de.present
            operator: In
            values: ["true"]
      {{- end }}
{{- end }}
{{- end }}

{{/* What both monitors say of an endpoint: takes the root and the monitor's values. */}}
{{- define "slicewatch.endpoint" -}}
port: metrics
path: /metrics
scheme: {{ include "slicewatch.scheme" .root }}
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
{{- with .monitor.tlsConfig }}
tlsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.basicAuth }}
basicAuth:
  {{- toYaml . | nindent 2 }}
{{- end }}
honorLabels: {{ .monitor.honorLabels }}
# Device series belong to a node, not to the agent's own pod; a pod's series name that pod.
relabelings:
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: node
  - sourceLabels: [__meta_kubernetes_pod_node_name]
    targetLabel: instance
  - action: labeldrop
    regex: (pod|container|namespace|endpoint|service)
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* The same of the check, whose findings are of the whole cluster: one instance, whatever pod and node
it is in, so that its series go on when the pod is another. It speaks plain HTTP. */}}
{{- define "slicewatch.checkEndpoint" -}}
port: metrics
path: /metrics
scheme: http
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
honorLabels: {{ .monitor.honorLabels }}
relabelings:
  - targetLabel: instance
    replacement: {{ include "slicewatch.checkFullname" .root }}
  - action: labeldrop
    regex: (pod|container|namespace|endpoint|service)
  {{- with .monitor.relabelings }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Values that cannot be right together, each refused in one line. */}}
{{- define "slicewatch.validate" -}}
{{- $scrapes := list }}
{{- range $name, $on := dict "podMonitor.enabled" (.Values.podMonitor).enabled "serviceMonitor.enabled" (.Values.serviceMonitor).enabled "scrapeAnnotations" .Values.scrapeAnnotations }}
{{- if $on }}{{ $scrapes = append $scrapes $name }}{{ end }}
{{- end }}
{{- if gt (len $scrapes) 1 }}
{{- fail (printf "%s are both on, and every agent would be scraped twice: leave one of them on" (join " and " (sortAlpha $scrapes))) }}
{{- end }}
{{- if and (.Values.serviceMonitor).enabled (not (.Values.service).enabled) }}
{{- fail "serviceMonitor.enabled needs service.enabled: a ServiceMonitor finds the agents by their Service" }}
{{- end }}
{{- $web := default dict .Values.web }}
{{- if and $web.config $web.configSecret }}
{{- fail "web.config and web.configSecret are both set: keep one" }}
{{- end }}
{{- if and $web.configSecret (not (and $web.scheme $web.probe)) }}
{{- fail "web.configSecret needs web.scheme (http or https) and web.probe (http, or tcp where clients need a certificate): the chart cannot read the Secret" }}
{{- end }}
{{- if and (ne (include "slicewatch.nvmlMode" .) "runtimeclass") (ne (include "slicewatch.nvmlMode" .) "default-runtime") (.Values.nvml).migMonitor }}
{{- fail (printf "nvml.migMonitor is for nvml.mode runtimeclass and default-runtime: in mode %s nobody reads NVIDIA_MIG_MONITOR_DEVICES" (include "slicewatch.nvmlMode" .)) }}
{{- end }}
{{- end }}
