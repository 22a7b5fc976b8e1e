"""Scores of items for a user, in Tripy."""

import nvtripy as tp


class TripyDotProductSimilarity(tp.Module):
    """Dot products, divided by a temperature."""

    def __init__(self, temperature: float) -> None:
        super().__init__()
        self._temperature = temperature

    def forward(self, query_embeddings: tp.Tensor, item_embeddings: tp.Tensor) -> tp.Tensor:
        """query_embeddings [B, D], item_embeddings [X, D] -> [B, X]"""
        dot_products = query_embeddings @ tp.transpose(item_embeddings, 0, 1)
        scores = dot_products / self._temperature
        return scores
