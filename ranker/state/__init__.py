"""The user's row: what it holds, the fold that makes it, its bytes, and the attribution of what came of a list."""
