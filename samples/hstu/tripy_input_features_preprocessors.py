"""From item embeddings to the input of the first block, in Tripy."""

import nvtripy as tp

from tripy_initialization import normal


class TripyPositionalPreprocessor(tp.Module):
    """Scales the item embeddings, adds learned positions and clears the padding."""

    def __init__(self, max_sequence_len: int, padded_len: int, embedding_dim: int) -> None:
        super().__init__()
        self._max_sequence_len = max_sequence_len
        self._embedding_dim = embedding_dim
        self._pos_emb = tp.Embedding(padded_len, embedding_dim)
        self._pos_emb.weight = normal((padded_len, embedding_dim), std=embedding_dim**-0.5)

    def forward(self, past_ids: tp.Tensor, past_embeddings: tp.Tensor) -> tp.Tensor:
        """past_ids [B, n], past_embeddings [B, n, D] -> [B, n, D]"""
        positions = tp.arange(self._max_sequence_len, dtype=tp.int32)
        position_embeddings = self._pos_emb(positions)
        scaled_embeddings = past_embeddings * self._embedding_dim**0.5
        features = scaled_embeddings + position_embeddings
        valid_mask = tp.cast(tp.unsqueeze(past_ids != 0, -1), tp.float32)
        features = features * valid_mask
        return features
