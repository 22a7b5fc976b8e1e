"""HSTU on padded tensors in Tripy, a port of hstu_dense.py.

Letters in the shapes: B samples, n columns of ids, N padded rows, D embedding width, H heads.
"""

import nvtripy as tp

from config import HstuConfig
from tripy_attention import pointwise_attention
from tripy_embedding_modules import TripyItemEmbeddings
from tripy_initialization import causal_attn_mask, normal, xavier_uniform
from tripy_input_features_preprocessors import TripyPositionalPreprocessor
from tripy_output_postprocessors import TripyL2NormPostprocessor
from tripy_similarity_module import TripyDotProductSimilarity


def layer_norm(x: tp.Tensor, width: int, eps: float) -> tp.Tensor:
    """LayerNorm over the last axis without learned scale and shift: [..., width], same shape out"""
    norm = tp.LayerNorm(width, eps=eps)
    norm.weight = tp.ones((width,))
    norm.bias = tp.zeros((width,))
    return norm(x)


class TripyRelativeBias(tp.Module):
    """Bias of query row i and key row j, shared by the heads."""

    def __init__(self, padded_len: int, num_buckets: int) -> None:
        super().__init__()
        self._padded_len = padded_len
        self._num_buckets = num_buckets
        self._ts_w = normal((num_buckets + 1,), std=0.02)
        self._pos_w = normal((2 * padded_len - 1,), std=0.02)

    def forward(self, timestamps: tp.Tensor) -> tp.Tensor:
        """timestamps [B, N] int64 -> [B, 1, N, N]"""
        n = self._padded_len

        # Rows of 3N - 2 over copies of 3N - 1 values: each row starts one value earlier than
        # the one above it, so that entry (i, j) of the crop is _pos_w[N - 1 + j - i].
        padded_pos_w = tp.pad(self._pos_w, [(0, n)])
        tiled_pos_w = tp.flatten(tp.expand(tp.unsqueeze(padded_pos_w, 0), (n, 3 * n - 1)))
        shortened_pos_w = tiled_pos_w[: n * (3 * n - 2)]
        skewed_pos_w = tp.reshape(shortened_pos_w, (1, n, 3 * n - 2))
        rel_pos_bias = skewed_pos_w[:, :, n - 1 : 2 * n - 1]

        # A query sees the time of its successor: entry (i, j) is the time of i + 1 less that of j.
        last_timestamp = timestamps[:, n - 1 : n]
        ext_timestamps = tp.concatenate([timestamps, last_timestamp], dim=1)
        query_times = tp.unsqueeze(ext_timestamps[:, 1 : n + 1], 2)
        key_times = tp.unsqueeze(ext_timestamps[:, 0:n], 1)
        time_differences = query_times - key_times
        abs_differences = abs(time_differences)
        abs_differences = tp.maximum(abs_differences, 1)
        log_differences = tp.log(tp.cast(abs_differences, tp.float32))
        time_buckets = tp.cast(log_differences / 0.301, tp.int32)
        time_buckets = tp.minimum(tp.maximum(time_buckets, 0), self._num_buckets)
        rel_ts_bias = tp.gather(self._ts_w, 0, time_buckets)

        rel_bias = rel_pos_bias + rel_ts_bias
        rel_bias = tp.unsqueeze(rel_bias, 1)
        return rel_bias


class TripyHstuBlock(tp.Module):
    """One block: projection to u, v, q, k, attention, gate, output projection, residual."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self._config = config
        self._linear_width = config.num_heads * config.linear_dim
        attention_width = config.num_heads * config.attention_dim
        self._split_sizes = [self._linear_width] * 2 + [attention_width] * 2
        self._uvqk = normal((config.embedding_dim, sum(self._split_sizes)), std=0.02)
        self._rel_attn_bias = TripyRelativeBias(config.padded_len, config.num_time_buckets)
        self._o_weight = xavier_uniform((self._linear_width, config.embedding_dim))
        self._o_bias = tp.zeros((config.embedding_dim,))

    def forward(self, x: tp.Tensor, timestamps: tp.Tensor, valid_attn_mask: tp.Tensor) -> tp.Tensor:
        """x [B, N, D], timestamps [B, N], valid_attn_mask [N, N] -> [B, N, D]"""
        eps = self._config.layer_norm_eps
        normedX = layer_norm(x, self._config.embedding_dim, eps)
        batched_mm_output = normedX @ self._uvqk
        batched_mm_output = tp.silu(batched_mm_output)
        u, v, q, k = tp.split(batched_mm_output, self._split_sizes, dim=-1)
        rel_bias = self._rel_attn_bias(timestamps)
        attn_output = pointwise_attention(q, k, v, rel_bias, valid_attn_mask, self._config)
        normed_attn = layer_norm(attn_output, self._linear_width, eps)
        oInput = u * normed_attn
        projected_output = oInput @ self._o_weight + self._o_bias
        block_output = projected_output + x
        return block_output


class TripyHstuStack(tp.Module):
    """The blocks, one after another."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self._attention_layers = [TripyHstuBlock(config) for _ in range(config.num_blocks)]

    def forward(self, x: tp.Tensor, timestamps: tp.Tensor, valid_attn_mask: tp.Tensor) -> tp.Tensor:
        """x [B, N, D], timestamps [B, N], valid_attn_mask [N, N] -> [B, N, D]"""
        for layer in self._attention_layers:
            x = layer(x, timestamps, valid_attn_mask)
        return x


class TripyHstuDense(tp.Module):
    """The sequence encoder on padded tensors."""

    def __init__(self, config: HstuConfig) -> None:
        super().__init__()
        self._config = config
        self._embedding_module = TripyItemEmbeddings(config.num_items, config.embedding_dim)
        self._input_features_preproc = TripyPositionalPreprocessor(
            config.max_sequence_len, config.padded_len, config.embedding_dim
        )
        self._hstu = TripyHstuStack(config)
        self._output_postproc = TripyL2NormPostprocessor()
        self._similarity = TripyDotProductSimilarity(config.temperature)
        self._attn_mask = causal_attn_mask(config.padded_len)

    def get_item_embeddings(self, item_ids: tp.Tensor) -> tp.Tensor:
        """item_ids [...] -> [..., D]"""
        return self._embedding_module(item_ids)

    def forward(
        self, past_ids: tp.Tensor, past_embeddings: tp.Tensor, timestamps: tp.Tensor
    ) -> tp.Tensor:
        """past_ids [B, n], past_embeddings [B, n, D], timestamps [B, N]
        -> [B, N, D], rows of length 1; only the rows of the history have a meaning"""
        features = self._input_features_preproc(past_ids, past_embeddings)
        padded_x = tp.pad(features, [(0, 0), (0, self._config.max_output_len), (0, 0)])
        valid_attn_mask = 1.0 - tp.cast(self._attn_mask, tp.float32)
        padded_embeddings = self._hstu(padded_x, timestamps, valid_attn_mask)
        encoded_embeddings = self._output_postproc(padded_embeddings)
        return encoded_embeddings

    def get_current_embeddings(
        self, past_lengths: tp.Tensor, encoded_embeddings: tp.Tensor
    ) -> tp.Tensor:
        """past_lengths [B], encoded_embeddings [B, N, D] -> [B, D], row L - 1 of each sample"""
        config = self._config
        flat_embeddings = tp.reshape(encoded_embeddings, (-1, config.embedding_dim))
        first_rows = tp.arange(config.batch_size, dtype=tp.int64) * config.padded_len
        current_rows = first_rows + past_lengths - 1
        current_embeddings = tp.gather(flat_embeddings, 0, current_rows)
        return current_embeddings

    def get_scores(self, current_embeddings: tp.Tensor, item_ids: tp.Tensor) -> tp.Tensor:
        """current_embeddings [B, D], item_ids [X] -> [B, X]"""
        item_embeddings = self.get_item_embeddings(item_ids)
        return self._similarity(current_embeddings, item_embeddings)
