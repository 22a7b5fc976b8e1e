"""Configurations and synthetic inputs for the HSTU models in this folder."""

from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class HstuConfig:
    """Sizes of one model. Single letters as in the docstrings of the models: N, D, H, B."""

    num_blocks: int
    max_sequence_len: int  # n, the columns of ids and embeddings
    max_output_len: int  # rows kept free behind the history
    embedding_dim: int  # D
    num_heads: int  # H
    attention_dim: int  # width of q and k per head
    linear_dim: int  # width of u and v per head
    num_items: int  # item ids are 1..num_items; 0 is padding
    batch_size: int  # B
    num_time_buckets: int = 128
    layer_norm_eps: float = 1e-6
    temperature: float = 0.05

    @property
    def padded_len(self) -> int:
        """N, the rows of every padded tensor and the width of the attention mask."""
        return self.max_sequence_len + self.max_output_len


CONFIGS = {
    "tiny": HstuConfig(
        num_blocks=2,
        max_sequence_len=24,
        max_output_len=3,
        embedding_dim=32,
        num_heads=2,
        attention_dim=16,
        linear_dim=16,
        num_items=200,
        batch_size=4,
    ),
    "ml-1m-large": HstuConfig(
        num_blocks=8,
        max_sequence_len=200,
        max_output_len=11,
        embedding_dim=50,
        num_heads=2,
        attention_dim=25,
        linear_dim=25,
        num_items=1000,
        batch_size=4,
    ),
}


@dataclass(frozen=True)
class HstuInputs:
    """One batch of histories.

    past_lengths: [B] int64, the number of valid rows of each sample
    past_ids: [B, n] int64, 0 behind the history
    past_embeddings: [B, n, D] float32, the item table's rows of past_ids
    timestamps: [B, N] int64, seconds, 0 behind the history
    """

    past_lengths: torch.Tensor
    past_ids: torch.Tensor
    past_embeddings: torch.Tensor
    timestamps: torch.Tensor


def make_inputs(model, config: HstuConfig, seed: int) -> HstuInputs:
    """Deterministic histories: the first fills all n columns, the second has one item."""
    generator = torch.Generator().manual_seed(seed)
    batch_size, n = config.batch_size, config.max_sequence_len

    # The sum is a multiple of 4: then the rows of u, v, q and k fill whole vector registers, and
    # torch's SiLU gives the jagged and the padded layout the same last bit.
    past_lengths = torch.randint(4, n, (batch_size,), generator=generator)
    past_lengths[0] = n
    past_lengths[1] = 1
    past_lengths[-1] -= past_lengths.sum() % 4

    past_ids = torch.randint(1, config.num_items + 1, (batch_size, n), generator=generator)
    past_ids = past_ids * (torch.arange(n) < past_lengths.unsqueeze(1))

    # Ten sittings, some seconds between two items, each sitting twice as late as the one before.
    # So few different gaps keep every gap away from the border of a time bucket, where the last
    # bit of a logarithm would decide.
    columns = torch.arange(config.padded_len)
    sitting_starts = 3600 * 2 ** (columns // (config.padded_len // 10))
    seconds = torch.randint(0, 4, (batch_size, config.padded_len), generator=generator)
    timestamps = 978_300_000 + sitting_starts + torch.cumsum(seconds, dim=1)
    timestamps = timestamps * (columns < past_lengths.unsqueeze(1))

    with torch.no_grad():
        past_embeddings = model.get_item_embeddings(past_ids)
    return HstuInputs(past_lengths, past_ids, past_embeddings, timestamps)


def valid_rows(past_lengths: torch.Tensor, padded_len: int) -> torch.Tensor:
    """[B, N] bool, true on the rows of the history."""
    return torch.arange(padded_len) < past_lengths.unsqueeze(1)
