"""What a person calls: the command line and what it composes of the packages below."""
