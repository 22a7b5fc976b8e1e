"""The attention of one HSTU block in Tripy."""

import nvtripy as tp

from config import HstuConfig


def pointwise_attention(
    q: tp.Tensor,
    k: tp.Tensor,
    v: tp.Tensor,
    rel_bias: tp.Tensor,
    valid_attn_mask: tp.Tensor,
    config: HstuConfig,
) -> tp.Tensor:
    """SiLU(q k^T + bias) / N under the causal mask, times v.

    q, k [B, N, H * attention_dim], v [B, N, H * linear_dim], rel_bias [B, 1, N, N],
    valid_attn_mask [N, N] -> [B, N, H * linear_dim]
    """
    n = config.padded_len
    q_heads = tp.reshape(q, (-1, n, config.num_heads, config.attention_dim))
    k_heads = tp.reshape(k, (-1, n, config.num_heads, config.attention_dim))
    v_heads = tp.reshape(v, (-1, n, config.num_heads, config.linear_dim))
    q_heads = tp.permute(q_heads, (0, 2, 1, 3))
    k_heads = tp.permute(k_heads, (0, 2, 3, 1))
    v_heads = tp.permute(v_heads, (0, 2, 1, 3))
    qk_attn = q_heads @ k_heads
    qk_attn = qk_attn + rel_bias
    qk_attn = tp.silu(qk_attn) / n
    qk_attn = qk_attn * valid_attn_mask
    attn_output = qk_attn @ v_heads
    attn_output = tp.permute(attn_output, (0, 2, 1, 3))
    attn_output = tp.reshape(attn_output, (-1, n, config.num_heads * config.linear_dim))
    return attn_output
