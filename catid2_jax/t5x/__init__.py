"""T5X and seqio on a work directory: vocabulary, tasks, and a model that predicts its products."""

import contextlib

# TensorFlow first and then Triton, which PyTorch's CUDA builds load, ends the process.
with contextlib.suppress(ImportError):
    import triton  # noqa: F401
