"""Metrics and logs, for the operators of a service."""
