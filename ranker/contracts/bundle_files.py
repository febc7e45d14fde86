"""The files of a model bundle, by name: who writes one, who reads one and who serves one take them from here."""

from __future__ import annotations

MANIFEST = "manifest.json"
TABLES = "tables.safetensors"
GOLDEN = "golden.npz"  # inputs of both graphs, and what torch made of them
EXTEND, SCORE = "extend", "score"  # the graphs: encode new events; score a list
GRAPHS = {EXTEND: f"{EXTEND}.onnx", SCORE: f"{SCORE}.onnx"}
