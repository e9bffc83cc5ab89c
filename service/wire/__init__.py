"""The dialects, a folder each: bytes to named arrays and back, without Flask or models."""
