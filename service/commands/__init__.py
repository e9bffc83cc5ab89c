"""The commands of the program `triceps`, one file each."""
