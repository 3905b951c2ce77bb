"""Builders for tensorflow_datasets: ESCI, and any catalogue. They need the extra `tfds`."""
