"""The chain from a catalogue to a Recall table, one module per step; entry points call these."""
