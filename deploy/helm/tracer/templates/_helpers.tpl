{{- /* The capabilities that are argued for in docs/deploy.md. */}}
{{- define "tracer.capabilities" -}}
- BPF
- PERFMON
- SYS_PTRACE
- DAC_READ_SEARCH
- SYS_RESOURCE
{{- if .Values.moduleHooks }}
- SYS_ADMIN
{{- end }}
{{- end }}

{{- define "tracer.selinux" -}}
{{- if .Values.openshift -}}
user: system_u
role: system_r
type: spc_t
level: s0
{{- else if eq .Values.selinux "super_t" -}}
user: system_u
role: system_r
type: super_t
level: s0
{{- else if .Values.selinux -}}
type: {{ .Values.selinux }}
{{- end }}
{{- end }}

{{- define "tracer.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end }}
{{- end }}
