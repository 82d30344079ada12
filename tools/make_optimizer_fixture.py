"""Print the expected weights of tests/unit/train/test_optimizer.c, as torch's optimisers give them.

usage: python make_optimizer_fixture.py        (made with torch 2.15 on a CPU)
"""
import torch

WEIGHTS, STEPS = 6, 5


def start():
    return torch.tensor([((5 * i) % 7 - 3) * 0.25 + 0.125 for i in range(WEIGHTS)])


def gradient(step):
    return torch.tensor([((7 * step + 3 * i * i + 5) % 11 - 5) * 0.03125 for i in range(WEIGHTS)])


def run(make):
    weights = start().requires_grad_()
    optimizer = make([weights])
    for step in range(STEPS):
        weights.grad = gradient(step)
        optimizer.step()
    return weights.detach()


def show(name, weights):
    print(f"static const float {name}[] = {{" + ", ".join(f"{w:.9g}f" for w in weights.tolist()) + "};")


show("adamw_decay", run(lambda w: torch.optim.AdamW(w, lr=1e-2, weight_decay=0.1)))
show("adamw_plain", run(lambda w: torch.optim.AdamW(w, lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.0)))
show("rmsprop_plain", run(lambda w: torch.optim.RMSprop(w, lr=1e-2)))
show("rmsprop_decay", run(lambda w: torch.optim.RMSprop(w, lr=1e-3, alpha=0.9, eps=1e-5, weight_decay=0.1)))
