"""From item embeddings to the input of the first block."""

import torch

from initialization import init_truncated_normal


class PositionalPreprocessor(torch.nn.Module):
    """Scales the item embeddings, adds learned positions and clears the padding."""

    def __init__(self, padded_len: int, embedding_dim: int, dropout_rate: float) -> None:
        super().__init__()
        self._embedding_dim = embedding_dim
        self._pos_emb = torch.nn.Embedding(padded_len, embedding_dim)
        self._emb_dropout = torch.nn.Dropout(dropout_rate)
        init_truncated_normal(self._pos_emb.weight, std=embedding_dim**-0.5)

    def forward(self, past_ids: torch.Tensor, past_embeddings: torch.Tensor) -> torch.Tensor:
        """past_ids [B, n], past_embeddings [B, n, D] -> [B, n, D]"""
        positions = torch.arange(past_ids.size(1), device=past_ids.device)
        position_embeddings = self._pos_emb(positions)
        scaled_embeddings = past_embeddings * self._embedding_dim**0.5
        user_embeddings = scaled_embeddings + position_embeddings
        user_embeddings = self._emb_dropout(user_embeddings)
        valid_mask = (past_ids != 0).unsqueeze(-1).float()
        user_embeddings = user_embeddings * valid_mask
        return user_embeddings
