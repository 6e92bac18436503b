"""What the API server does with connections to kubelets, pods and services: it stands in the middle.

- ``connect``: exec, attach and port-forward of a pod, and the choice of how to carry each
- ``translate``: a WebSocket client's exec or attach, towards a kubelet that speaks SPDY
- ``tunnel``: a WebSocket that carries a whole SPDY connection, for port-forward
- ``reverse``: the proxy subresources of nodes, pods and services
- ``links``: URLs in what a proxied server answers, rewritten to lead through the proxy
- ``log``: a container's log
- ``messages``: logs and watches for WebSocket clients

All take the client's ``Request``, a ``Transport`` to the target, and its ``Location``, and give a ``Response``.
Sources: KEP-4006 (WebSockets in place of SPDY), and the proxy packages of apimachinery and apiserver.
"""
