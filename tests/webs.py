"""A web server on every node, which says on which one it is: what tests of several nodes apply."""

from __future__ import annotations

from tiphys.cluster.images import DEMO_IMAGE

NAMES_ITS_NODE = "echo $NODE > /tmp/index.html; exec httpd -f -p 8080 -h /tmp"


def web_on_every_node(script: str = NAMES_ITS_NODE) -> str:
    """The manifest of the DaemonSet ``web``, whose pods have the label ``app=web`` and serve port 8080."""
    return f"""
apiVersion: apps/v1
kind: DaemonSet
metadata: {{name: web}}
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec:
      terminationGracePeriodSeconds: 0
      containers:
      - name: web
        image: {DEMO_IMAGE}
        command: [sh, -c, '{script}']
        env: [{{name: NODE, valueFrom: {{fieldRef: {{fieldPath: spec.nodeName}}}}}}]
        readinessProbe: {{httpGet: {{port: 8080}}, periodSeconds: 1}}
"""
