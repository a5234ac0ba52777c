{{- define "orgcast.name" -}}
{{- if contains "orgcast" .Release.Name -}}{{ .Release.Name | trunc 50 | trimSuffix "-" }}{{- else -}}{{ printf "%s-orgcast" (.Release.Name | trunc 42 | trimSuffix "-") }}{{- end -}}
{{- end -}}

{{- define "orgcast.selector" -}}
app.kubernetes.io/name: orgcast
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "orgcast.labels" -}}
{{ include "orgcast.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- with .Values.image.tag }}
app.kubernetes.io/version: {{ . | quote }}
{{- end }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "orgcast.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "orgcast.name" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{/* The settings file: config, and what the chart sets itself. A certificate is a file, and so is
     the setting that names it; any other secret has a setting that ends with -file. */}}
{{- define "orgcast.settings" -}}
{{- $settings := deepCopy .Values.config -}}
{{- range $name, $_ := .Values.secrets -}}
  {{- $setting := ternary $name (printf "%s-file" $name) (regexMatch "(^|-)tls-(ca|cert|key)$" $name) -}}
  {{- $settings = set $settings $setting (printf "/run/secrets/orgcast/%s" $name) -}}
{{- end -}}
{{- if .Values.routes -}}
  {{- $settings = set $settings "routes-file" "routes.yaml" -}}
{{- end -}}
{{- toYaml $settings -}}
{{- end -}}

{{/* Seconds of a duration such as 1m30s or 300ms. */}}
{{- define "orgcast.seconds" -}}
{{- $sum := 0.0 -}}
{{- $units := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "μs" 0.000001 "ns" 0.000000001 -}}
{{- range regexFindAll "([0-9]+\\.?[0-9]*|\\.[0-9]+)[a-zµμ]+" (toString .) -1 -}}
  {{- $sum = addf $sum (mulf (regexFind "^[0-9.]+" .) (get $units (regexFind "[a-zµμ]+$" .))) -}}
{{- end -}}
{{- $sum -}}
{{- end -}}

{{/* terminationGracePeriodSeconds: the longest possible stop (docs/deploy.md), and 10 s. */}}
{{- define "orgcast.grace" -}}
{{- $sum := addf .Values.preStopSeconds 10 -}}
{{- range $name, $default := dict "drain-wait" "2s" "drain" "10s" "close-timeout" "5s" "hook-timeout" "10s" -}}
  {{- $value := ternary (get $.Values.config $name) $default (hasKey $.Values.config $name) -}}
  {{- $sum = addf $sum (include "orgcast.seconds" $value) -}}
{{- end -}}
{{- ceil $sum | int64 -}}
{{- end -}}

{{/* Paths of the public listener. */}}
{{- define "orgcast.paths" -}}
{{- $paths := list "/ws" "/sse" -}}
{{- with get .Values.config "console-path" -}}{{- $paths = append $paths . -}}{{- end -}}
{{- toJson $paths -}}
{{- end -}}

{{- define "orgcast.projected" -}}
projected:
  defaultMode: 0440
  sources:
    {{- range $name, $from := . }}
    - secret:
        name: {{ $from.secret }}
        items: [{key: {{ $from.key | quote }}, path: {{ $name | quote }}}]
    {{- end }}
{{- end -}}

{{/* A ConfigMap is not secret, and neither are a Deployment and its history. */}}
{{- define "orgcast.refuse" -}}
{{- range $name := list "redis" "redis-state" "channel-layer-redis" -}}
  {{- if regexMatch "(^|,)\\s*[a-z]+://[^/@]*:[^/]*@" (get $.Values.config $name | default "" | toString) -}}
    {{- fail (printf "config.%s has a password: put it into a Secret, and name that in secrets.%s-password" $name $name) -}}
  {{- end -}}
{{- end -}}
{{- end -}}
