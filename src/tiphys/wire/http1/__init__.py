"""HTTP/1.1 (RFC 9112) over llhttp: server and client connections."""
