"""T5: the encoder-decoder Transformer of stage 2."""
