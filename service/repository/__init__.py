"""The model repository: what there is, what of it is loaded, and how it changes."""
