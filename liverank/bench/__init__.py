"""`liverank bench`: what the docs claim, measured on this machine."""
