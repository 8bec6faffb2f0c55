{{- define "stonechat.name" -}}
{{ printf "%s" .Release.Name | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "stonechat.selector" -}}
app.kubernetes.io/name: stonechat
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "stonechat.labels" -}}
{{ include "stonechat.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{/* What must be given, and what excludes what: said here, not found out by a pod that does not start. */}}
{{- define "stonechat.check" -}}
{{- $_ := required "stores.secretName is needed: a Secret with redis, postgres and cql" .Values.stores.secretName }}
{{- $keys := compact (list .Values.tokens.jwksUrl .Values.tokens.jwksConfigMap .Values.tokens.secretName) }}
{{- if ne (len $keys) 1 }}{{ fail "one of tokens.jwksUrl, tokens.jwksConfigMap and tokens.secretName is needed" }}{{ end }}
{{- if and .Values.nodeTls.secretName (not .Values.nodeTls.names) }}{{ fail "nodeTls.names is needed with nodeTls.secretName" }}{{ end }}
{{- if and .Values.nodeTls.secretName .Values.nodeTls.plain }}{{ fail "nodeTls.plain contradicts nodeTls.secretName" }}{{ end }}
{{- if not (or .Values.nodeTls.secretName .Values.nodeTls.plain) }}{{ fail "nodeTls.secretName is needed, or nodeTls.plain where nobody else reaches port 7402" }}{{ end }}
{{- if and (or .Values.stores.redisCa .Values.stores.cqlCa) (not .Values.stores.authorities) }}{{ fail "stores.authorities is needed with stores.redisCa and stores.cqlCa" }}{{ end }}
{{- if and .Values.stores.cqlNames (not .Values.stores.cqlCa) }}{{ fail "stores.cqlCa is needed with stores.cqlNames" }}{{ end }}
{{- range $name, $_ := .Values.settings }}
{{- if has $name (list "data_folder" "listen" "issuer" "audience" "jwks_file" "jwks_url" "tls_certificate" "tls_key" "operator_listen" "operator_client_ca" "operator_client_names" "connections_max" "redis" "redis_cluster" "redis_ca" "postgres" "postgres_connections_max" "cql" "cql_keyspace" "cql_datacenter" "cql_replication" "cql_user" "cql_password" "cql_ca" "cql_names" "roles" "node_listen" "node_advertise" "node_plain" "node_certificate" "node_key" "node_ca" "node_names") }}
{{- fail (printf "settings.%s is set by the chart" $name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Where the stores are, for the environment of a container. */}}
{{- define "stonechat.stores" -}}
{{- $secret := .secretName }}
{{- range concat (list "redis" "postgres" "cql") (ternary (list "cql_user" "cql_password") (list) .cqlLogin) }}
- name: STONECHAT_{{ upper . }}
  valueFrom: {secretKeyRef: {name: {{ $secret }}, key: {{ . }}}}
{{- end }}
{{- end }}

{{/* A pod of one role: (dict "root" $ "role" "gateway" "of" .Values.gateway). */}}
{{- define "stonechat.pod" -}}
{{- $root := .root -}}
{{- $values := .root.Values -}}
{{- $drain := int (default 10 $values.settings.drain_seconds) -}}
metadata:
  labels:
    {{- include "stonechat.labels" $root | nindent 4 }}
    app.kubernetes.io/component: {{ .role }}
  annotations:
    # Settings are read at the start: others make other pods.
    checksum/settings: {{ include (print $root.Template.BasePath "/configmap.yaml") $root | sha256sum }}
    {{- with .of.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "stonechat.name" $root }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  # Twice drain_seconds and ten, behind the hook.
  terminationGracePeriodSeconds: {{ add (int .of.preStopSeconds) (mul 2 $drain) 10 }}
  securityContext:
    runAsNonRoot: true
    runAsUser: 65532
    runAsGroup: 65532
    fsGroup: 65532
    seccompProfile: {type: RuntimeDefault}
  {{- with $values.imagePullSecrets }}
  imagePullSecrets:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  topologySpreadConstraints:
    {{- range list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ . }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "stonechat.selector" $root | nindent 10 }}
          app.kubernetes.io/component: {{ $.role }}
    {{- end }}
  {{- if $values.tokens.secretName }}
  initContainers:
    - name: secret
      image: {{ $values.tokens.copyImage }}
      command: [sh, -euc, "umask 077; cp /secret/secret.hs256 /data/secret.hs256; chmod 600 /data/secret.hs256"]
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: data, mountPath: /data}
        - {name: secret, mountPath: /secret, readOnly: true}
  {{- end }}
  containers:
    - name: stonechat
      image: "{{ $values.image.repository }}:{{ $values.image.tag | default $root.Chart.AppVersion }}"
      imagePullPolicy: {{ $values.image.pullPolicy }}
      args: [serve]
      envFrom:
        - configMapRef: {name: {{ include "stonechat.name" $root }}}
      env:
        - {name: STONECHAT_ROLES, value: {{ .role }}}
        {{- if eq .role "gateway" }}
        - {name: STONECHAT_CONNECTIONS_MAX, value: {{ int .of.connectionsMax | quote }}}
        {{- end }}
        - name: POD_IP
          valueFrom: {fieldRef: {fieldPath: status.podIP}}
        # By address, not by name: a node is found in Redis, and is another one after each start.
        - {name: STONECHAT_NODE_ADVERTISE, value: "$(POD_IP):7402"}
        {{- include "stonechat.stores" $values.stores | nindent 8 }}
      ports:
        {{- if eq .role "gateway" }}
        - {name: public, containerPort: 7400}
        {{- end }}
        - {name: operator, containerPort: 7401}
        - {name: node, containerPort: 7402}
      # All on the operators' port: it is plain, and the last that closes.
      startupProbe:
        httpGet: {path: /health/live, port: operator}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 60
      livenessProbe:
        httpGet: {path: /health/live, port: operator}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /health/ready, port: operator}
        periodSeconds: 2
        timeoutSeconds: 2
        failureThreshold: 2
      {{- if int .of.preStopSeconds }}
      lifecycle:
        preStop: {sleep: {seconds: {{ int .of.preStopSeconds }}}}
      {{- end }}
      resources:
        {{- toYaml .of.resources | nindent 8 }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      volumeMounts:
        - {name: data, mountPath: /var/lib/stonechat}
        {{- if $values.tokens.jwksConfigMap }}
        - {name: jwks, mountPath: /etc/stonechat/jwks, readOnly: true}
        {{- end }}
        {{- if $values.tls.secretName }}
        - {name: tls, mountPath: /etc/stonechat/tls, readOnly: true}
        {{- end }}
        {{- if $values.stores.authorities }}
        - {name: stores, mountPath: /etc/stonechat/stores, readOnly: true}
        {{- end }}
        {{- if $values.nodeTls.secretName }}
        - {name: node-tls, mountPath: /etc/stonechat/node-tls, readOnly: true}
        {{- end }}
  volumes:
    # Nothing that must last: log, markers and directory are in the stores.
    - name: data
      emptyDir: {sizeLimit: 256Mi}
    {{- with $values.tokens.secretName }}
    - name: secret
      secret: {secretName: {{ . }}}
    {{- end }}
    {{- with $values.tokens.jwksConfigMap }}
    - name: jwks
      configMap: {name: {{ . }}}
    {{- end }}
    {{- with $values.tls.secretName }}
    - name: tls
      secret: {secretName: {{ . }}}
    {{- end }}
    {{- with $values.stores.authorities }}
    - name: stores
      configMap: {name: {{ . }}}
    {{- end }}
    {{- with $values.nodeTls.secretName }}
    - name: node-tls
      secret: {secretName: {{ . }}}
    {{- end }}
  {{- with .of.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .of.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
