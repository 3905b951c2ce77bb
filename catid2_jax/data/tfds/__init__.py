"""Builders for tensorflow_datasets: ESCI, and any catalogue; they need the extra `tfds`."""
