"""A first model for any schema, made of what travels in the package: no data, no training, no torch."""
