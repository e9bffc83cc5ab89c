"""Row independence: the proof, or else the trial, that each answer depends on its row alone."""
