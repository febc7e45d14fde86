"""What else a team would write: workers that are compared with liverank's, with the same decoding, fold and model."""
