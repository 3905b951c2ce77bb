"""The RQ-VAE with the losses of Eq. 8: CAT-ID2, TIGER, CoST and the ablations between them."""
