{{- define "stt.name" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{ .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else -}}
{{ printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" }}
{{- end -}}
{{- end -}}

{{- define "stt.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "stt.labels" -}}
{{ include "stt.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
{{- end -}}

{{- define "stt.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default (printf "%s-%s" .Chart.AppVersion (ternary "cuda" "cpu" (eq (int .Values.gpu.count) 1))) }}
{{- end -}}

{{- define "stt.model" -}}
{{ .Values.engine.model | default (ternary "Qwen/Qwen3-ASR-1.7B" "base" (eq .Values.engine.backend "qwen3")) }}
{{- end -}}

{{- define "stt.claim" -}}
{{ .Values.modelCache.existingClaim | default (printf "%s-models" (include "stt.name" .)) }}
{{- end -}}

{{- define "stt.targetSessions" -}}
{{ max 1 (div (mul (int .Values.maxSessions) (int .Values.autoscaling.targetPercent)) 100) }}
{{- end -}}

{{/* Down slowly, for each pod that goes ends calls; up at once, for a server loads for minutes. */}}
{{- define "stt.scaling" -}}
scaleUp:
  stabilizationWindowSeconds: 0
  policies:
    - type: Percent
      value: 100
      periodSeconds: 60
scaleDown:
  stabilizationWindowSeconds: {{ .Values.autoscaling.scaleDownAfterSeconds }}
  selectPolicy: Min
  policies:
    - type: Pods
      value: 1
      periodSeconds: 60
    - type: Percent
      value: 25
      periodSeconds: 60
{{- end -}}

{{- define "stt.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- define "stt.cacheEnv" -}}
- name: STT_MODEL_DIR
  value: /cache/models
- name: HF_HOME
  value: /cache/huggingface
- name: VLLM_CACHE_ROOT
  value: /cache/vllm
- name: XDG_CACHE_HOME
  value: /cache/xdg
{{- end -}}
