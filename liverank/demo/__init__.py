"""`liverank demo`: the whole loop on this machine, with nothing set up before and nothing left behind."""
