"""HSTU on padded tensors, [B, N, D]: the same maths as hstu.py without a jagged operation.

Rows behind a history start at zero. The blocks fill them, which the causal mask keeps from the
rows of the history. Letters in the shapes are those of hstu.py.
"""

import torch
import torch.nn.functional as F

from config import HstuConfig
from embedding_modules import ItemEmbeddings
from initialization import init_normal, init_output_projection
from input_features_preprocessors import PositionalPreprocessor
from output_postprocessors import L2NormPostprocessor
from relative_bias import RelativeBias
from similarity import DotProductSimilarity


def padded_attention(
    q: torch.Tensor,
    k: torch.Tensor,
    v: torch.Tensor,
    rel_bias: torch.Tensor,
    valid_attn_mask: torch.Tensor,
    config: HstuConfig,
) -> torch.Tensor:
    """Pointwise attention: SiLU(q k^T + bias) / N under the causal mask, times v.

    q, k [B, N, H * attention_dim], v [B, N, H * linear_dim], rel_bias [B, 1, N, N],
    valid_attn_mask [N, N] -> [B, N, H * linear_dim]
    """
    n = valid_attn_mask.size(-1)
    q_heads = q.reshape(-1, n, config.num_heads, config.attention_dim)
    k_heads = k.reshape(-1, n, config.num_heads, config.attention_dim)
    v_heads = v.reshape(-1, n, config.num_heads, config.linear_dim)
    qk_attn = torch.einsum("bnhd,bmhd->bhnm", q_heads, k_heads)
    qk_attn = qk_attn + rel_bias
    qk_attn = F.silu(qk_attn) / n
    qk_attn = qk_attn * valid_attn_mask
    attn_output = torch.einsum("bhnm,bmhd->bnhd", qk_attn, v_heads)
    attn_output = attn_output.reshape(-1, n, config.num_heads * config.linear_dim)
    return attn_output


class HstuDenseBlock(torch.nn.Module):
    """One block: projection to u, v, q, k, attention, gate, output projection, residual."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self._config = config
        linear_width = config.num_heads * config.linear_dim
        attention_width = config.num_heads * config.attention_dim
        self._split_sizes = [linear_width, linear_width, attention_width, attention_width]
        self._uvqk = torch.nn.Parameter(torch.empty(config.embedding_dim, sum(self._split_sizes)))
        self._rel_attn_bias = RelativeBias(config.padded_len, config.num_time_buckets)
        self._o = torch.nn.Linear(linear_width, config.embedding_dim)
        init_normal(self._uvqk, std=0.02)
        init_output_projection(self._o)

    def forward(
        self, x: torch.Tensor, timestamps: torch.Tensor, valid_attn_mask: torch.Tensor
    ) -> torch.Tensor:
        """x [B, N, D], timestamps [B, N], valid_attn_mask [N, N] -> [B, N, D]"""
        eps = self._config.layer_norm_eps
        normed_x = F.layer_norm(x, [x.size(-1)], eps=eps)
        batched_mm_output = torch.matmul(normed_x, self._uvqk)
        batched_mm_output = F.silu(batched_mm_output)
        u, v, q, k = torch.split(batched_mm_output, self._split_sizes, dim=-1)
        rel_bias = self._rel_attn_bias(timestamps)
        attn_output = padded_attention(q, k, v, rel_bias, valid_attn_mask, self._config)
        normed_attn = F.layer_norm(attn_output, [attn_output.size(-1)], eps=eps)
        o_input = u * normed_attn
        projected_output = self._o(o_input)
        new_outputs = projected_output + x
        return new_outputs


class HstuDenseStack(torch.nn.Module):
    """The blocks, one after another."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self._attention_layers = torch.nn.ModuleList(
            [HstuDenseBlock(config) for _ in range(config.num_blocks)]
        )

    def forward(
        self, x: torch.Tensor, timestamps: torch.Tensor, valid_attn_mask: torch.Tensor
    ) -> torch.Tensor:
        """x [B, N, D], timestamps [B, N], valid_attn_mask [N, N] -> [B, N, D]"""
        for layer in self._attention_layers:
            x = layer(x, timestamps, valid_attn_mask)
        return x


class HstuDense(torch.nn.Module):
    """The sequence encoder on padded tensors."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        n = config.padded_len
        self._config = config
        self._embedding_module = ItemEmbeddings(config.num_items, config.embedding_dim)
        self._input_features_preproc = PositionalPreprocessor(
            n, config.embedding_dim, dropout_rate=0.2
        )
        self._hstu = HstuDenseStack(config)
        self._output_postproc = L2NormPostprocessor()
        self._similarity = DotProductSimilarity(config.temperature)
        attn_mask = torch.triu(torch.ones((n, n), dtype=torch.bool), diagonal=1)
        self.register_buffer("_attn_mask", attn_mask)

    def get_item_embeddings(self, item_ids: torch.Tensor) -> torch.Tensor:
        """item_ids [...] -> [..., D]"""
        return self._embedding_module(item_ids)

    def forward(
        self, past_ids: torch.Tensor, past_embeddings: torch.Tensor, timestamps: torch.Tensor
    ) -> torch.Tensor:
        """past_ids [B, n], past_embeddings [B, n, D], timestamps [B, N]
        -> [B, N, D], rows of length 1; only the rows of the history have a meaning"""
        user_embeddings = self._input_features_preproc(past_ids, past_embeddings)
        padded_x = F.pad(user_embeddings, (0, 0, 0, self._config.max_output_len))
        valid_attn_mask = 1.0 - self._attn_mask.float()
        padded_embeddings = self._hstu(padded_x, timestamps, valid_attn_mask)
        encoded_embeddings = self._output_postproc(padded_embeddings)
        return encoded_embeddings

    def get_current_embeddings(
        self, past_lengths: torch.Tensor, encoded_embeddings: torch.Tensor
    ) -> torch.Tensor:
        """past_lengths [B], encoded_embeddings [B, N, D] -> [B, D], row L - 1 of each sample"""
        batch_size, n, width = encoded_embeddings.shape
        flat_embeddings = encoded_embeddings.reshape(batch_size * n, width)
        current_rows = torch.arange(batch_size) * n + past_lengths - 1
        current_embeddings = flat_embeddings[current_rows]
        return current_embeddings

    def get_scores(self, current_embeddings: torch.Tensor, item_ids: torch.Tensor) -> torch.Tensor:
        """current_embeddings [B, D], item_ids [X] -> [B, X]"""
        item_embeddings = self.get_item_embeddings(item_ids)
        return self._similarity(current_embeddings, item_embeddings)
