{{/* At most 35 characters: a StatefulSet's name may have 52, and `-stream-processor` is added. */}}
{{- define "anabranch.fullname" -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- $full := contains $name .Release.Name | ternary .Release.Name (printf "%s-%s" .Release.Name $name) -}}
{{- default $full .Values.fullnameOverride | trunc 35 | trimSuffix "-" -}}
{{- end -}}

{{- define "anabranch.serviceAccountName" -}}
{{- $made := .Values.serviceAccount.create | ternary (include "anabranch.fullname" .) "default" -}}
{{- default $made .Values.serviceAccount.name -}}
{{- end -}}

{{- define "anabranch.definitionName" -}}
{{- default (printf "%s-definition" (include "anabranch.fullname" .)) .Values.definition.existingConfigMap -}}
{{- end -}}

{{/* What never changes of an object. */}}
{{- define "anabranch.selectorLabels" -}}
app.kubernetes.io/name: {{ default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "anabranch.labels" -}}
{{ include "anabranch.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end -}}

{{/*
The settings of one service as JSON: {plain: {NAME: value}, secret: {NAME: {secret, key}}}.
Takes {root, name}. A service's own settings go before those of all.
*/}}
{{- define "anabranch.settings" -}}
{{- $service := index .root.Values.services .name -}}
{{- $plain := dict -}}
{{- $secret := dict -}}
{{- range $from := list .root.Values $service -}}
{{- range $key, $value := $from.settings -}}
{{- /* A large number from a values file would become 6.7e+07. */ -}}
{{- $whole := and (kindIs "float64" $value) (eq (floor $value) $value) -}}
{{- $_ := set $plain $key ($whole | ternary (int64 $value | toString) (toString $value)) -}}
{{- $_ := unset $secret $key -}}
{{- end -}}
{{- range $key, $value := $from.secretSettings -}}
{{- if hasKey $from.settings $key -}}
{{- fail (printf "%s stands in both settings and secretSettings: leave one of them" $key) -}}
{{- end -}}
{{- $_ := set $secret $key $value -}}
{{- $_ := unset $plain $key -}}
{{- end -}}
{{- end -}}
{{- $required := list "KAFKA_BROKERS" -}}
{{- if eq .name "fusion" -}}{{- $required = append $required "DATABASE_URL" -}}{{- end -}}
{{- range $required -}}
{{- if not (or (index $plain . | default "") (hasKey $secret .)) -}}
{{- fail (printf "%s is missing for %s: set it in settings or secretSettings" . $.name) -}}
{{- end -}}
{{- end -}}
{{- dict "plain" $plain "secret" $secret | toJson -}}
{{- end -}}

{{/* The topics of all sources as JSON, by the source's name. */}}
{{- define "anabranch.topics" -}}
{{- $topics := .Values.keda.topics -}}
{{- if and (not $topics) (index .Values.definition.files "anabranch.yaml") -}}
{{- $definition := fromYaml (index .Values.definition.files "anabranch.yaml") -}}
{{- if $definition.Error -}}
{{- fail (printf "definition.files: anabranch.yaml is no YAML: %s" $definition.Error) -}}
{{- end -}}
{{- $topics = dict -}}
{{- range $name, $source := $definition.sources -}}
{{- $_ := set $topics $name (default $name $source.topic) -}}
{{- end -}}
{{- end -}}
{{- if not $topics -}}
{{- fail "keda.topics is empty: with definition.existingConfigMap, name the sources and their topics there" -}}
{{- end -}}
{{- toJson $topics -}}
{{- end -}}
