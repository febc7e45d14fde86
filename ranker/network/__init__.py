"""The Transformer and its export to ONNX: the only room of the core with torch."""
