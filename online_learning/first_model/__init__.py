"""A model trained offline on a log, and the sentence encoder that it reads items by."""
