"""Sixty synthetic products and networks that train in seconds, for tests of whole runs."""

from catid2_jax.config import default_config


def get_config():
    config = default_config()
    config.data.synthetic.update(products=60, train_queries=120, dev_queries=0, test_queries=20)
    config.embedding.dim = 16
    config.rqvae.update(
        levels=3, category_levels=2, codebook_size=8, latent_dim=8, hidden_dims=(16,)
    )
    config.rqvae_training.update(
        batch_size=32, steps=10, steps_per_dispatch=4, warmup_steps=1, learning_rate=0.01
    )
    config.seq2seq.vocabulary_size = 300
    config.t5.update(
        emb_dim=32, num_heads=2, head_dim=16, mlp_dim=32, num_encoder_layers=1, num_decoder_layers=1
    )
    config.seq2seq_training.update(batch_size=64, epochs=40, warmup_steps=10, steps_per_dispatch=4)
    config.retrieve.update(beams=20, k=15)
    config.evaluate.cutoffs = (5, 10)
    return config
