"""HTTP/1.1 on a socket: connections, flow control, TLS, tokens, CORS and request IDs."""
