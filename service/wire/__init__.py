"""Bytes to named arrays and back: one file a dialect, and none knows Flask or the model."""
