"""What is read off the records that passed: which ranking covers which event, how fresh the weights are."""
