"""The commands of `triceps`, one file each."""
