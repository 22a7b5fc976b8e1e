"""Scores of items for a user."""

import torch


class DotProductSimilarity(torch.nn.Module):
    """Dot products, divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def forward(
        self, query_embeddings: torch.Tensor, item_embeddings: torch.Tensor
    ) -> torch.Tensor:
        """query_embeddings [B, D], item_embeddings [X, D] -> [B, X]"""
        dot_products = torch.mm(query_embeddings, item_embeddings.t())
        scores = dot_products / self._temperature
        return scores
