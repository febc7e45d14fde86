"""`liverank web`: one page with two sides, for who looks at a list and for who keeps the system running."""
