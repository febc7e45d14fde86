"""Where rows are: in memory, in RocksDB, in the changelog, and the checkpoints between them."""
