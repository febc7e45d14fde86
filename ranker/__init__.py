"""The core: contracts, the user's row, items, features, the Transformer, bundles, roll-out, scorer. No Kafka client."""

import os

# ONNX Runtime would send its maker events of each process, under an id that it keeps in the home folder, unless it is
# told not to before it is imported. Who wants that sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
