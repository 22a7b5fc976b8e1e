"""Mixture of experts: one token at a time, and all at once."""

import sys

import torch
import torch.nn.functional as F

DIM, HIDDEN, EXPERTS, TOP = 12, 20, 4, 2


def init(seed):
    g = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=g) * shape[-1] ** -0.5

    experts = [(draw(HIDDEN, DIM), draw(HIDDEN, DIM), draw(DIM, HIDDEN)) for _ in range(EXPERTS)]
    return {"router": draw(EXPERTS, DIM), "experts": experts, "norm": 1 + 0.1 * draw(DIM)}


def norm(x, weight):
    return x / torch.sqrt((x * x).mean(-1, keepdim=True) + 1e-6) * weight


def moe(params, x):
    h = norm(x, params["norm"])
    out = []
    for token in h:
        logits = params["router"] @ token
        best, chosen = torch.topk(logits, TOP)
        shares = torch.softmax(best, 0)
        y = torch.zeros(DIM)
        for share, index in zip(shares, chosen.tolist()):
            gate, up, down = params["experts"][index]
            y = y + share * (down @ (F.silu(gate @ token) * (up @ token)))
        out.append(y)
    return x + torch.stack(out)


def moe_batched(params, x, bug):
    h = norm(x, params["norm"])
    logits = h @ params["router"].T
    if bug == "share":
        everyone = torch.softmax(logits, -1)
        best, chosen = torch.topk(everyone, TOP)
        shares = best  # shares of all experts
    else:
        best, chosen = torch.topk(logits, TOP)
        shares = torch.softmax(best, -1)
    dense = torch.zeros_like(logits).scatter(1, chosen, shares)
    gates = torch.stack([e[0] for e in params["experts"]])
    ups = torch.stack([e[1] for e in params["experts"]])
    downs = torch.stack([e[2] for e in params["experts"]])
    g = torch.einsum("td,ehd->teh", h, gates)
    u = torch.einsum("td,ehd->teh", h, ups)
    if bug == "act":
        hidden = F.gelu(g) * u
    else:
        hidden = F.silu(g) * u
    y = torch.einsum("teh,edh->ted", hidden, downs)
    mixed = (y * dense[..., None]).sum(1)
    if bug == "residual":
        return h + mixed
    return x + mixed


if __name__ == "__main__":
    bug = sys.argv[sys.argv.index("--bug") + 1] if "--bug" in sys.argv else None
    params = init(11)
    x = torch.randn(9, DIM, generator=torch.Generator().manual_seed(4))
    a = moe(params, x)
    b = moe_batched(params, x, bug)
    print(f"cosine {F.cosine_similarity(a.flatten(), b.flatten(), dim=0):.6f}")
