"""The methods of gRPC: predictions, pages, health and reflection, each by its full name."""
