"""The versions that a worker serves: announced, loaded, swapped, changed by deltas, watched; and the catalogue."""
