"""Whether each row of a batch goes through a graph by itself."""
