"""Which version serves whom: the fold of announcements into stages, and what a canary's clicks say."""
