"""Others' names and values as ours: columns of files, topics that already run, the fields of their records."""
