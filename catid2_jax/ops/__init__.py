"""Parameter-free numerics that know no term of the paper."""
