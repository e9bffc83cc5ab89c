"""The resources of the machine or container: processors, memory, descriptors and files."""
