"""Files of T5s, T5X's and Hugging Face's, and the rows of their ID tokens."""
