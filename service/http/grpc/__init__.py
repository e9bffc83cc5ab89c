"""gRPC on HTTP/2 streams: the framing of messages, metadata, statuses, and one call."""
