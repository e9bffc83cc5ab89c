"""The model repository: its files, its loaded versions, and its changes."""
