"""What surrounds a process that serves: the folder that is its own, and the page on which it says how it is."""
