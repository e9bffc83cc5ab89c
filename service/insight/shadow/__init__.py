"""The shadow: a version that runs rows after others were answered, so that both are compared."""
