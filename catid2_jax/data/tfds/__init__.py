"""Builders for tensorflow_datasets: ESCI, and any catalogue; they need the extra `tfds`."""

import contextlib

# TensorFlow first and then Triton, which PyTorch's CUDA builds load, ends the process.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401
