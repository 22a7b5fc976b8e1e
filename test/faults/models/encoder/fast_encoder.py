"""The sequence encoder for serving: flat fused weights and functions, sequence first."""

import math

import torch
import torch.nn.functional as F
from torch.nn import Parameter

import fast_ops as ops


class FastBlock(torch.nn.Module):
    def __init__(self, width, heads, groups, head_dim, buckets, kernel, hidden):
        super().__init__()
        self.heads = heads
        self.groups = groups
        self.head_dim = head_dim
        self.q_size = heads * head_dim
        self.kv_size = groups * head_dim
        self.mix_gain = Parameter(torch.ones(width))
        self.w_qkv = Parameter(torch.zeros(width, self.q_size + 2 * self.kv_size))
        self.b_qkv = Parameter(torch.zeros(self.q_size + 2 * self.kv_size))
        self.offset_bias = Parameter(torch.zeros(heads, buckets))
        self.w_attended = Parameter(torch.zeros(self.q_size, width))
        self.b_attended = Parameter(torch.zeros(width))
        self.w_expand = Parameter(torch.zeros(width, 2 * width))
        self.b_expand = Parameter(torch.zeros(2 * width))
        self.taps = Parameter(torch.zeros(kernel, width))
        self.b_taps = Parameter(torch.zeros(width))
        self.local_gain = Parameter(torch.ones(width))
        self.local_shift = Parameter(torch.zeros(width))
        self.w_contract = Parameter(torch.zeros(width, width))
        self.b_contract = Parameter(torch.zeros(width))
        self.branch_scale = Parameter(torch.ones(width))
        self.mlp_gain = Parameter(torch.ones(width))
        self.w_mlp_in = Parameter(torch.zeros(width, 2 * hidden))
        self.b_mlp_in = Parameter(torch.zeros(2 * hidden))
        self.w_mlp_out = Parameter(torch.zeros(hidden, width))
        self.b_mlp_out = Parameter(torch.zeros(width))

    def forward(self, x, valid, constant_bias, buckets, dilation):
        normed = ops.rms_norm(x, self.mix_gain)
        x = x + self.attend(normed, valid, constant_bias, buckets)
        x = x + self.convolve(normed, valid, dilation) * self.branch_scale
        normed = ops.rms_norm(x, self.mlp_gain)
        mlp = ops.swiglu(normed, self.w_mlp_in, self.b_mlp_in, self.w_mlp_out, self.b_mlp_out)
        return x + mlp

    def attend(self, x, valid, constant_bias, buckets):
        length, batch, _ = x.shape
        qkv = x @ self.w_qkv + self.b_qkv
        query, key, value = torch.split(qkv, [self.q_size, self.kv_size, self.kv_size], dim=-1)
        query = query.reshape(length, batch, self.heads, self.head_dim)
        query = query * self.head_dim**-0.5
        key = key.reshape(length, batch, self.groups, self.head_dim)
        value = value.reshape(length, batch, self.groups, self.head_dim)
        bias = self.offset_bias[:, buckets] + constant_bias
        bias = bias.unsqueeze(0) + ops.key_padding_bias(valid)
        mixed = ops.grouped_attention(query, key, value, bias)
        return mixed @ self.w_attended + self.b_attended

    def convolve(self, x, valid, dilation):
        content, gate = torch.chunk(x @ self.w_expand + self.b_expand, 2, dim=-1)
        local = content * torch.sigmoid(gate)
        local = local * valid.unsqueeze(2)
        local = ops.depthwise(local, self.taps, self.b_taps, dilation)
        local = ops.layer_norm(local, self.local_gain, self.local_shift)
        local = F.silu(local)
        return local @ self.w_contract + self.b_contract


class FastEncoder(torch.nn.Module):
    def __init__(
        self,
        vocabulary=61,
        segments=3,
        width=32,
        heads=6,
        groups=2,
        head_dim=8,
        reach=4,
        windows=(3, 5, None),
        kernel=5,
        dilations=(1, 2, 1),
        hidden=44,
        pools=2,
        embedding=12,
        classes=5,
        longest=32,
    ):
        super().__init__()
        self.reach = reach
        self.windows = windows
        self.dilations = dilations
        self.biases = {}
        self.tokens = Parameter(torch.zeros(vocabulary, width))
        self.segments = Parameter(torch.zeros(segments, width))
        self.embed_gain = Parameter(torch.ones(width))
        self.embed_shift = Parameter(torch.zeros(width))
        self.register_buffer("positions", ops.position_table(longest, width))
        self.register_buffer("slopes", ops.decay_slopes(heads))
        self.blocks = torch.nn.ModuleList(
            [
                FastBlock(width, heads, groups, head_dim, 2 * reach + 1, kernel, hidden)
                for _ in windows
            ]
        )
        self.final_gain = Parameter(torch.ones(width))
        self.w_pool = Parameter(torch.zeros(width, 16))
        self.b_pool = Parameter(torch.zeros(16))
        self.w_score = Parameter(torch.zeros(16, pools))
        self.b_score = Parameter(torch.zeros(pools))
        summary = width * (pools + 1)
        self.w_project = Parameter(torch.zeros(summary, embedding))
        self.b_project = Parameter(torch.zeros(embedding))
        self.class_gain = Parameter(torch.ones(summary))
        self.class_shift = Parameter(torch.zeros(summary))
        self.w_class_in = Parameter(torch.zeros(summary, 24))
        self.b_class_in = Parameter(torch.zeros(24))
        self.w_class_out = Parameter(torch.zeros(24, classes))
        self.b_class_out = Parameter(torch.zeros(classes))

    def forward(self, ids, segments, lengths):
        """ids and segments [B, N], lengths [B]"""
        length = ids.shape[1]
        valid = ops.valid_steps(lengths, length)
        x = self.embed(ids, segments)
        buckets = ops.offset_buckets(length, self.reach)
        for i, block in enumerate(self.blocks):
            bias = self.constant_bias(length, self.windows[i])
            x = block(x, valid, bias, buckets, self.dilations[i])
        x = ops.rms_norm(x, self.final_gain)
        summary = self.summarize(x, valid, lengths)
        embedding = ops.unit_length(summary @ self.w_project + self.b_project)
        return embedding, self.classify(summary)

    def embed(self, ids, segments):
        x = self.tokens[ids.t()] * math.sqrt(self.tokens.shape[1])
        x = x + self.positions[: ids.shape[1]].unsqueeze(1)
        x = x + F.embedding(segments.t(), self.segments)
        return ops.layer_norm(x, self.embed_gain, self.embed_shift)

    def constant_bias(self, length, window):
        """[H, N, N]: the decay with distance and the window, kept for the next request"""
        key = (length, window)
        if key not in self.biases:
            distance = ops.relative_steps(length).abs()
            bias = -self.slopes.view(-1, 1, 1) * distance
            if window is not None:
                bias = bias + ops.window_bias(length, window)
            self.biases[key] = bias
        return self.biases[key]

    def summarize(self, x, valid, lengths):
        hidden = torch.tanh(x @ self.w_pool + self.b_pool)
        scores = 4.0 * (hidden @ self.w_score + self.b_score)
        means = ops.pool_tokens(x, scores, valid)
        ends = ops.last_tokens(x, lengths)
        return torch.cat([means, ends], dim=-1)

    def classify(self, summary):
        normed = ops.layer_norm(summary, self.class_gain, self.class_shift)
        hidden = normed @ self.w_class_in + self.b_class_in
        hidden = F.gelu(hidden, approximate="tanh")
        return hidden @ self.w_class_out + self.b_class_out


@torch.no_grad()
def copy_weights(model, port):
    """From the modules of the reference to the flat weights of the port."""
    port.tokens.copy_(model.embedder.token.weight)
    port.segments.copy_(model.embedder.segment.weight)
    port.embed_gain.copy_(model.embedder.norm.weight)
    port.embed_shift.copy_(model.embedder.norm.bias)
    for source, target in zip(model.blocks, port.blocks):
        copy_attention(source, target)
        copy_convolution(source.convolution, target)
        target.branch_scale.copy_(source.branch_scale)
        copy_mlp(source, target)
    port.final_gain.copy_(model.norm.weight)
    port.w_pool.copy_(model.pool.hidden.weight.t())
    port.b_pool.copy_(model.pool.hidden.bias)
    port.w_score.copy_(model.pool.score.weight.t())
    port.b_score.copy_(model.pool.score.bias)
    port.w_project.copy_(model.projection.weight.t())
    port.b_project.copy_(model.projection.bias)
    port.class_gain.copy_(model.classifier[0].weight)
    port.class_shift.copy_(model.classifier[0].bias)
    port.w_class_in.copy_(model.classifier[1].weight.t())
    port.b_class_in.copy_(model.classifier[1].bias)
    port.w_class_out.copy_(model.classifier[3].weight.t())
    port.b_class_out.copy_(model.classifier[3].bias)


def copy_attention(source, target):
    layers = [source.attention.q, source.attention.k, source.attention.v]
    target.mix_gain.copy_(source.mix_norm.weight)
    target.w_qkv.copy_(torch.cat([layer.weight for layer in layers]).t())
    target.b_qkv.copy_(torch.cat([layer.bias for layer in layers]))
    target.offset_bias.copy_(source.attention.offset_bias.weight.t())
    target.w_attended.copy_(source.attention.out.weight.t())
    target.b_attended.copy_(source.attention.out.bias)


def copy_convolution(source, target):
    target.w_expand.copy_(source.expand.weight.t())
    target.b_expand.copy_(source.expand.bias)
    target.taps.copy_(source.depthwise.weight[:, 0].t())
    target.b_taps.copy_(source.depthwise.bias)
    target.local_gain.copy_(source.norm.weight)
    target.local_shift.copy_(source.norm.bias)
    target.w_contract.copy_(source.contract.weight.t())
    target.b_contract.copy_(source.contract.bias)


def copy_mlp(source, target):
    up, gate = source.mlp.up, source.mlp.gate
    target.mlp_gain.copy_(source.mlp_norm.weight)
    target.w_mlp_in.copy_(torch.cat([up.weight, gate.weight]).t())
    target.b_mlp_in.copy_(torch.cat([up.bias, gate.bias]))
    target.w_mlp_out.copy_(source.mlp.down.weight.t())
    target.b_mlp_out.copy_(source.mlp.down.bias)
