{{/* The chart's name, or the user's. */}}
{{- define "metallb.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* What all names begin with: the release's name, and the chart's unless the release's holds it. */}}
{{- define "metallb.fullname" -}}
{{- $name := .Values.nameOverride | default .Chart.Name -}}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) -}}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Labels that select a component's pods, with (dict "root" $ "component" NAME). They can never change: add none. */}}
{{- define "metallb.selector" -}}
app.kubernetes.io/name: {{ include "metallb.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end -}}

{{/* Labels of a component's objects. */}}
{{- define "metallb.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
{{ include "metallb.selector" . }}
{{- end -}}

{{/* Name of a component's ServiceAccount. */}}
{{- define "metallb.account" -}}
{{- $account := (get .root.Values .component).serviceAccount -}}
{{- if $account.create -}}
{{- $account.name | default (printf "%s-%s" (include "metallb.fullname" .root) .component) -}}
{{- else -}}
{{- $account.name | default "default" -}}
{{- end -}}
{{- end -}}

{{/* Name of the Secret with the speakers' shared key, which the controller makes. */}}
{{- define "metallb.secretName" -}}
{{- .Values.speaker.secretName | default (printf "%s-memberlist" (include "metallb.fullname" .)) | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* The flavour of BGP; empty for native. */}}
{{- define "metallb.bgpType" -}}
{{- $frrk8s := or .Values.frrk8s.enabled .Values.frrk8s.external -}}
{{- if and .Values.speaker.frr.enabled $frrk8s -}}
{{- fail "speaker.frr.enabled and frrk8s.enabled (or frrk8s.external) are both true: choose one flavour of BGP" -}}
{{- end -}}
{{- if and .Values.frrk8s.enabled .Values.frrk8s.external -}}
{{- fail "frrk8s.enabled and frrk8s.external are both true: choose one" -}}
{{- end -}}
{{- if $frrk8s -}}frr-k8s{{- else if .Values.speaker.frr.enabled -}}frr{{- end -}}
{{- end -}}

{{/* Annotations of a component's pods, if any. */}}
{{- define "metallb.podAnnotations" -}}
{{- $all := dict -}}
{{- if .root.Values.prometheus.scrapeAnnotations -}}
{{- $all = dict "prometheus.io/scrape" "true" "prometheus.io/scheme" "https" "prometheus.io/port" (toString .root.Values.prometheus.metricsPort) -}}
{{- end -}}
{{- with mergeOverwrite $all ((get .root.Values .component).podAnnotations | default dict) -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{/* Flags that both components have. */}}
{{- define "metallb.args" -}}
{{- $values := .root.Values -}}
{{- $component := get $values .component -}}
- --port={{ $values.prometheus.metricsPort }}
- --health-probe-port={{ $component.livenessProbe.port }}
- --log-level={{ $component.logLevel | default "info" }}
{{- with $values.loadBalancerClass }}
- --lb-class={{ . }}
{{- end }}
{{- with $values.tls.cipherSuites }}
- --tls-cipher-suites={{ . }}
{{- end }}
{{- with $values.tls.curvePreferences }}
- --tls-curve-preferences={{ . }}
{{- end }}
{{- with $values.tls.minVersion }}
- --tls-min-version={{ . }}
{{- end }}
{{- if get $values.tls (printf "%sMetricsTLSSecret" .component) }}
- --metrics-cert-dir=/etc/metrics
{{- end }}
{{- end -}}

{{/* Environment that both components have. */}}
{{- define "metallb.env" -}}
- name: METALLB_NAMESPACE
  valueFrom:
    fieldRef:
      fieldPath: metadata.namespace
- name: METALLB_POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
- name: METALLB_POD_UID
  valueFrom:
    fieldRef:
      fieldPath: metadata.uid
{{- with include "metallb.bgpType" .root }}
- name: METALLB_BGP_TYPE
  value: {{ . }}
{{- end }}
{{- end -}}

{{/* What both containers have in common, from the image to the command. */}}
{{- define "metallb.container" -}}
{{- $component := get .root.Values .component -}}
{{- if hasPrefix "quay.io/metallb/" $component.image.repository -}}
{{- fail (printf "%s.image.repository is %q, the image of MetalLB in Go, which this chart cannot run: leave it out, or name your copy of quay.io/metallb-rs/%s" .component $component.image.repository .component) -}}
{{- end -}}
name: {{ .component }}
image: {{ printf "%s:%s" $component.image.repository ($component.image.tag | default .root.Chart.AppVersion) | quote }}
imagePullPolicy: {{ $component.image.pullPolicy | default "IfNotPresent" }}
terminationMessagePolicy: FallbackToLogsOnError
{{- with $component.command }}
command:
- {{ . | quote }}
{{- end }}
{{- with $component.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Both probes. `host` is where they ask; empty: the pod's address. */}}
{{- define "metallb.probes" -}}
{{- $component := get .root.Values .component -}}
{{- $host := .host -}}
{{- range $name, $path := dict "livenessProbe" "/healthz" "readinessProbe" "/readyz" -}}
{{- with get $component $name }}
{{- if ne .enabled false }}
{{ $name }}:
  httpGet:
    {{- with $host }}
    host: {{ . }}
    {{- end }}
    path: {{ $path }}
    {{- /* Both are served on one port. */}}
    port: {{ $component.livenessProbe.port }}
  failureThreshold: {{ .failureThreshold }}
  initialDelaySeconds: {{ .initialDelaySeconds }}
  periodSeconds: {{ .periodSeconds }}
  successThreshold: {{ .successThreshold }}
  timeoutSeconds: {{ .timeoutSeconds }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}

{{/* Fields of the pod that both components have. */}}
{{- define "metallb.pod" -}}
{{- $component := get .root.Values .component -}}
serviceAccountName: {{ include "metallb.account" . }}
{{- with .root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $component.runtimeClassName }}
runtimeClassName: {{ . | quote }}
{{- end }}
{{- with $component.priorityClassName }}
priorityClassName: {{ . | quote }}
{{- end }}
{{- with $component.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
nodeSelector:
  {{- toYaml (merge (dict "kubernetes.io/os" "linux") ($component.nodeSelector | default dict)) | nindent 2 }}
{{- $tolerations := list -}}
{{- if ne $component.tolerateMaster false -}}
{{- range list "node-role.kubernetes.io/master" "node-role.kubernetes.io/control-plane" -}}
{{- $tolerations = append $tolerations (dict "key" . "operator" "Exists" "effect" "NoSchedule") -}}
{{- end -}}
{{- end -}}
{{- with concat $tolerations ($component.tolerations | default list) }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* A strategy without the details of a rolling update when it is none: the API refuses them. */}}
{{- define "metallb.strategy" -}}
{{- toYaml (ternary . (omit . "rollingUpdate") (eq .type "RollingUpdate")) -}}
{{- end -}}

{{/* Name of the metrics port in both pods. */}}
{{- define "metallb.metricsPortName" -}}
monitoring
{{- end -}}

{{/* Interval and relabelings of a monitor. */}}
{{- define "metallb.scrape" -}}
{{- with .interval }}
{{- /* A number is of seconds: Prometheus wants the unit. */}}
interval: {{ kindIs "string" . | ternary . (printf "%vs" .) }}
{{- end }}
{{- with .metricRelabelings }}
metricRelabelings:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- with .relabelings }}
relabelings:
{{- toYaml . | nindent 0 }}
{{- end }}
{{- end -}}

{{/* Labels and annotations of an alert. */}}
{{- define "metallb.alert" -}}
annotations:
  summary: {{ .summary | quote }}
  description: {{ .description | quote }}
{{- with .labels }}
labels:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}
