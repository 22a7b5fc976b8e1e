"""The item table in Tripy."""

import nvtripy as tp

from tripy_initialization import normal


class TripyItemEmbeddings(tp.Module):
    """A learned row for each item; row 0 is padding."""

    def __init__(self, num_items: int, embedding_dim: int) -> None:
        super().__init__()
        self._item_emb = tp.Embedding(num_items + 1, embedding_dim)
        self._item_emb.weight = normal((num_items + 1, embedding_dim), std=1.0)

    def forward(self, item_ids: tp.Tensor) -> tp.Tensor:
        """item_ids [...] int64 -> [..., D]"""
        item_embeddings = self._item_emb(item_ids)
        return item_embeddings
