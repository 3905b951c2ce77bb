"""T5X and seqio on a work directory: vocabulary, tasks, and a model that predicts its products."""
