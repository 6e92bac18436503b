"""gRPC over HTTP/2: the server side of unary and streaming calls."""
