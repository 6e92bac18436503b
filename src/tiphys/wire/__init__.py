"""HTTP/1.1, HTTP/2, chunked, WebSocket and SPDY framing, TLS and protobuf: the only place that touches sockets."""
