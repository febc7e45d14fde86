"""What everybody agrees on: topics and their records, the feature schema, decoding, names, errors, time."""
