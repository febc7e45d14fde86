"""`liverank up`: one installation on this machine, all of it supervised, for as long as it is wanted."""
