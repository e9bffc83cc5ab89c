"""Models and their runs: sessions, sub-graphs, queues and batches."""
