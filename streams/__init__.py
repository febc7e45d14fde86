"""The edge that serves: Faust app, topics, tables, agents, micro-batcher and dead letters."""
