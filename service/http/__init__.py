"""HTTP/1.1 on a socket, and what every request passes: tokens, TLS, flow control, names."""
