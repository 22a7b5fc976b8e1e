"""The item table."""

import torch

from initialization import init_item_table


class ItemEmbeddings(torch.nn.Module):
    """A learned row for each item; row 0 is padding."""

    def __init__(self, num_items: int, embedding_dim: int) -> None:
        super().__init__()
        self._item_emb = torch.nn.Embedding(num_items + 1, embedding_dim, padding_idx=0)
        init_item_table(self._item_emb.weight)

    def forward(self, item_ids: torch.Tensor) -> torch.Tensor:
        """item_ids [...] int64 -> [..., D]"""
        item_embeddings = self._item_emb(item_ids)
        return item_embeddings
