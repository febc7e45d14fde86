"""From rows and items to the numbers that the model reads: of a list, of a history, of a user, of a batch of users."""
