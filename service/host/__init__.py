"""What the machine, or the container, has: processors, memory, descriptors and files."""
