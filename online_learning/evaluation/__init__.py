"""How well rankers put what was chosen: metrics, peers, a log's lists, next items, progressive windows."""
