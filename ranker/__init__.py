"""The core: domain records, user history, features, the Transformer and its scorer. Knows no Kafka and no Faust."""
