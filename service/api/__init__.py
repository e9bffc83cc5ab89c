"""Pages about the models, by protocol, and who may ask for them."""
