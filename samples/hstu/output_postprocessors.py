"""From the output of the last block to the encodings."""

import torch


class L2NormPostprocessor(torch.nn.Module):
    """Scales every row to length 1."""

    def __init__(self, eps: float = 1e-6) -> None:
        super().__init__()
        self._eps = eps

    def forward(self, output_embeddings: torch.Tensor) -> torch.Tensor:
        """[..., D] -> [..., D]"""
        norms = torch.linalg.norm(output_embeddings, ord=2, dim=-1, keepdim=True)
        clamped_norms = torch.clamp(norms, min=self._eps)
        normalized_embeddings = output_embeddings / clamped_norms
        return normalized_embeddings
