"""People who do not exist: their tastes, and what they click."""
