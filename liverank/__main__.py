"""`python -m liverank` is the command line."""

from liverank.cli.main import main

main()
