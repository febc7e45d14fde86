"""From a bundle and users' rows to ranked lists: graphs, caches, rules, exploration, the slot that a swap changes."""
