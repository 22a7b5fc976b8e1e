"""From the output of the last block to the encodings, in Tripy."""

import nvtripy as tp


class TripyL2NormPostprocessor(tp.Module):
    """Scales every row to length 1."""

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self._eps = eps

    def forward(self, output_embeddings: tp.Tensor) -> tp.Tensor:
        """[..., D] -> [..., D]"""
        squares = output_embeddings * output_embeddings
        norms = tp.sqrt(tp.sum(squares, dim=-1, keepdim=True))
        clamped_norms = tp.maximum(norms, self._eps)
        normalized_embeddings = output_embeddings / clamped_norms
        return normalized_embeddings
