import argparse
import copy

import torch
from torch import nn


class TinyConfig:
    def __init__(self, **kwargs):
        self.vocab_size = kwargs.pop("vocab_size", 80)
        self.hidden_size = kwargs.pop("hidden_size", 32)
        self.num_hidden_layers = kwargs.pop("num_hidden_layers", 2)
        self.num_attention_heads = kwargs.pop("num_attention_heads", 4)
        self.rms_norm_eps = kwargs.pop("rms_norm_eps", 1e-5)


class TinyRMSNorm(nn.Module):
    def __init__(self, hidden_size, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(hidden_size))
        self.variance_epsilon = eps

    def forward(self, hidden_states):
        input_dtype = hidden_states.dtype
        hidden_states = hidden_states.to(torch.float32)
        variance = hidden_states.pow(2).mean(-1, keepdim=True)
        hidden_states = hidden_states * torch.rsqrt(variance + self.variance_epsilon)
        return self.weight * hidden_states.to(input_dtype)


class TinyAttention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.num_heads = config.num_attention_heads
        self.head_dim = config.hidden_size // self.num_heads
        self.q_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)
        self.o_proj = nn.Linear(config.hidden_size, config.hidden_size, bias=False)

    def forward(self, hidden_states, attention_mask=None):
        bsz, q_len, _ = hidden_states.size()
        query = self.q_proj(hidden_states).view(bsz, q_len, self.num_heads, self.head_dim).transpose(1, 2)
        key = self.k_proj(hidden_states).view(bsz, q_len, self.num_heads, self.head_dim).transpose(1, 2)
        value = self.v_proj(hidden_states).view(bsz, q_len, self.num_heads, self.head_dim).transpose(1, 2)
        attn_weights = torch.matmul(query, key.transpose(2, 3)) * self.head_dim**-0.5
        if attention_mask is not None:
            attn_weights = attn_weights + attention_mask
        attn_weights = nn.functional.softmax(attn_weights, dim=-1, dtype=torch.float32).to(query.dtype)
        attn_output = torch.matmul(attn_weights, value)
        return self.o_proj(attn_output.transpose(1, 2).reshape(bsz, q_len, -1))


class TinyDecoderLayer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.self_attn = TinyAttention(config)
        self.input_layernorm = TinyRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.post_attention_layernorm = TinyRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.gate_proj = nn.Linear(config.hidden_size, 48, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, 48, bias=False)
        self.down_proj = nn.Linear(48, config.hidden_size, bias=False)

    def forward(self, hidden_states, attention_mask=None):
        residual = hidden_states
        hidden_states = self.input_layernorm(hidden_states)
        hidden_states = residual + self.self_attn(hidden_states, attention_mask=attention_mask)
        residual = hidden_states
        hidden_states = self.post_attention_layernorm(hidden_states)
        hidden_states = self.down_proj(nn.functional.silu(self.gate_proj(hidden_states)) * self.up_proj(hidden_states))
        return residual + hidden_states


class TinyForCausalLM(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList([TinyDecoderLayer(config) for _ in range(config.num_hidden_layers)])
        self.norm = TinyRMSNorm(config.hidden_size, config.rms_norm_eps)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)

    @property
    def dtype(self):
        return self.lm_head.weight.dtype

    def forward(self, input_ids):
        hidden_states = self.embed_tokens(input_ids)
        length = input_ids.shape[1]
        mask = torch.full((length, length), torch.finfo(self.dtype).min, dtype=self.dtype).triu(1)
        for decoder_layer in self.layers:
            hidden_states = decoder_layer(hidden_states, attention_mask=mask)
        return self.lm_head(self.norm(hidden_states))


class TinyForCausalLMScaled(TinyForCausalLM):
    def forward(self, input_ids):
        hidden_states = self.embed_tokens(input_ids)
        hidden_states = hidden_states * self.config.hidden_size**0.5
        length = input_ids.shape[1]
        mask = torch.full((length, length), torch.finfo(self.dtype).min, dtype=self.dtype).triu(1)
        for decoder_layer in self.layers:
            hidden_states = decoder_layer(hidden_states, attention_mask=mask)
        return self.lm_head(self.norm(hidden_states))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--torch_dtype", default="bfloat16")
    parser.add_argument("--scaled", action="store_true")
    args = parser.parse_args()
    torch.manual_seed(0)
    model = TinyForCausalLM(TinyConfig()).eval()
    small = TinyForCausalLMScaled(TinyConfig()) if args.scaled else copy.deepcopy(model)
    small.load_state_dict(model.state_dict())
    small = small.to(getattr(torch, args.torch_dtype)).eval()
    input_ids = torch.randint(0, 80, (2, 9))
    with torch.no_grad():
        logits = model(input_ids)
        logits_small = small(input_ids)
    print("mean difference", (logits - logits_small.float()).abs().mean().item())
