"""The relative attention bias: one learned weight per distance and one per time bucket."""

import torch
import torch.nn.functional as F

from initialization import init_normal


class RelativeBias(torch.nn.Module):
    """Bias of query row i and key row j, shared by the heads."""

    def __init__(self, padded_len: int, num_buckets: int) -> None:
        super().__init__()
        self._padded_len = padded_len
        self._num_buckets = num_buckets
        self._ts_w = torch.nn.Parameter(torch.empty(num_buckets + 1))
        self._pos_w = torch.nn.Parameter(torch.empty(2 * padded_len - 1))
        init_normal(self._ts_w, std=0.02)
        init_normal(self._pos_w, std=0.02)

    def forward(self, timestamps: torch.Tensor) -> torch.Tensor:
        """timestamps [B, N] int64 -> [B, 1, N, N]"""
        n = self._padded_len

        # Rows of 3N - 2 over copies of 3N - 1 values: each row starts one value earlier than
        # the one above it, so that entry (i, j) of the crop is _pos_w[N - 1 + j - i].
        padded_pos_w = F.pad(self._pos_w, (0, n))
        tiled_pos_w = padded_pos_w.repeat(n)
        shortened_pos_w = tiled_pos_w[:-n]
        skewed_pos_w = shortened_pos_w.reshape(1, n, 3 * n - 2)
        rel_pos_bias = skewed_pos_w[:, :, n - 1 : 2 * n - 1]

        # A query sees the time of its successor: entry (i, j) is the time of i + 1 less that of j.
        last_timestamp = timestamps[:, n - 1 : n]
        ext_timestamps = torch.cat([timestamps, last_timestamp], dim=1)
        query_times = ext_timestamps[:, 1:].unsqueeze(2)
        key_times = ext_timestamps[:, :-1].unsqueeze(1)
        time_differences = query_times - key_times
        abs_differences = torch.abs(time_differences)
        abs_differences = torch.clamp(abs_differences, min=1)
        log_differences = torch.log(abs_differences.float())
        bucketed_timestamps = (log_differences / 0.301).long()
        bucketed_timestamps = torch.clamp(bucketed_timestamps, min=0, max=self._num_buckets)
        rel_ts_bias = self._ts_w[bucketed_timestamps]

        rel_bias = rel_pos_bias + rel_ts_bias
        rel_bias = rel_bias.unsqueeze(1)
        return rel_bias
