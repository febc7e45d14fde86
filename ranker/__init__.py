"""The core: contracts, the user's row, items, features, the Transformer, bundles, roll-out, scorer. No Kafka client."""
