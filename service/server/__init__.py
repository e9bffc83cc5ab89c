"""Processes and sockets: what `triceps serve` is made of."""
