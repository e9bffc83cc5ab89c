"""The processes and sockets of `triceps serve`."""
