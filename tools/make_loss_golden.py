"""Write tests/golden/losses.json: losses and their derivatives by log-prob, as TRL's own code gives them on
log-probs that are made up here, or torch alone where TRL has no such loss.

usage: python make_loss_golden.py OUT.json        (made with trl 1.16.0 and torch 2.15 on a CPU)

The trainers are not run: their loss functions are called on a stand-in that has the settings which they read and
a model that answers with the log-probs.
"""
import json
import sys
from collections import defaultdict
from types import SimpleNamespace

import torch
import torch.nn.functional as F
from trl import DPOTrainer, GRPOTrainer, KTOTrainer, RLOOTrainer
from trl.experimental.cpo import CPOTrainer

torch.set_default_dtype(torch.float64)
torch.manual_seed(7)

PAIRS, LONGEST = 4, 6
LENGTHS = [[5, 3], [2, 6], [4, 4], [6, 1]]  # winner, loser
THIRD = [3, 2, 5, 4]                        # a response of the anchor's
PROMPTS, RESPONSES = 2, 4
GROUP_LENGTHS = [[1, 3, 6, 2], [4, 4, 2, 5]]


def f32(x):
    """Values that f32 has too: what reaches spar's token objectives is f32."""
    return x.float().double()


def token_logps(*shape):
    return f32(-2.5 * torch.rand(*shape) - 0.01)


def near(logps, apart):
    return f32((logps + apart * torch.randn_like(logps)).clamp(max=-1e-3))


def mask_of(lengths):
    return (torch.arange(LONGEST)[None, :] < torch.tensor(lengths)[:, None]).long()


class Accelerator:
    device = torch.device("cpu")
    num_processes = 1
    sync_gradients = True

    def gather(self, x):
        return x

    gather_for_metrics = gather

    def reduce(self, x, reduction):
        return x


def stand_in(**settings):
    return SimpleNamespace(accelerator=Accelerator(), model=SimpleNamespace(training=True), aux_loss_enabled=False,
                           _metrics=defaultdict(lambda: defaultdict(list)), _total_train_tokens=0, _tp_size=1, **settings)


class Model:
    """Answers a forward pass with the log-probs that it holds."""
    training = True

    def __init__(self, logps):
        self.logps = logps

    def __call__(self, **unused):
        zeros = torch.zeros_like(self.logps)
        return SimpleNamespace(log_probs=self.logps, entropy=zeros, mean_logits=zeros, is_top1=zeros.bool())


# ---- pairs ----

winners, losers = [n for n, _ in LENGTHS], [n for _, n in LENGTHS]
mask = mask_of(winners + losers)
policy_tokens = token_logps(2 * PAIRS, LONGEST) * mask
policy = policy_tokens.sum(1)
opponent = policy + 1.5 * torch.randn(2 * PAIRS)
anchor = opponent + torch.randn(2 * PAIRS)
third = -4.0 * torch.rand(PAIRS) - 3.0
win_rates = torch.rand(2 * PAIRS)
rewards = torch.rand(2 * PAIRS)
lengths = torch.tensor(winners + losers)


def dpo_like(loss_type, beta, label_smoothing=0.0):
    trainer = stand_in(ld_alpha=None, precompute_ref_logps=True, f_divergence_type="reverse_kl", loss_types=[loss_type],
                       loss_weights=[1.0], beta=beta, label_smoothing=label_smoothing, use_weighting=False)
    # a first column stands for the prompt's last token, which TRL shifts away
    completion = torch.cat([torch.zeros(2 * PAIRS, 1).long(), mask], 1)
    inputs = {"input_ids": completion, "attention_mask": completion, "completion_mask": completion,
              "ref_chosen_logps": opponent[:PAIRS], "ref_rejected_logps": opponent[PAIRS:]}
    tokens = policy_tokens.clone().requires_grad_()
    loss = DPOTrainer._compute_loss(trainer, Model(tokens), inputs, False)
    return loss, torch.autograd.grad(loss, tokens)[0][:, 0]


def by_torch(formula):
    """formula(w, l, y0): the mean loss of summed log-probs."""
    w, l, y0 = (x.clone().requires_grad_() for x in (policy[:PAIRS], policy[PAIRS:], third))
    loss = formula(w, l, y0)
    if loss.dim() > 0:
        loss = loss.mean()
    grads = torch.autograd.grad(loss, [w, l, y0], allow_unused=True)
    return loss, torch.cat([g if g is not None else torch.zeros(PAIRS) for g in grads])


def cpo_loss(loss_type, beta, gamma, mean):
    trainer = stand_in(alpha=0.0, loss_type=loss_type, beta=beta, simpo_gamma=gamma, label_smoothing=0.0)
    n = lengths if mean else torch.ones(2 * PAIRS)
    return lambda w, l, _: CPOTrainer.cpo_loss(trainer, w / n[:PAIRS], l / n[PAIRS:])[0]


def likelihood(w):
    return -w / lengths[:PAIRS]


def orpo(w, l, _):
    """As TRL has it, but in f64: TRL rounds to f32 here."""
    mean_w, mean_l = w / lengths[:PAIRS], l / lengths[PAIRS:]
    log_odds = (mean_w - mean_l) - (torch.log1p(-torch.exp(mean_w)) - torch.log1p(-torch.exp(mean_l)))
    return likelihood(w) - 0.1 * F.logsigmoid(log_odds)


s = lambda x, which: x - opponent[which]
W, L = slice(0, PAIRS), slice(PAIRS, 2 * PAIRS)


def sppo(w, l, _):
    return 0.5 * ((s(w, W) - (win_rates[W] - 0.5) / 0.02) ** 2 + (s(l, L) - (win_rates[L] - 0.5) / 0.02) ** 2)


def rebel(w, l, _):
    return ((s(w, W) - s(l, L)) / 0.5 - (rewards[W] - rewards[L])) ** 2


def inpo(w, l, _):
    eta, tau = 0.3, 0.1
    gap = lambda a, b: a - b
    h = gap(w, l) - tau / eta * gap(anchor[W], anchor[L]) - (eta - tau) / eta * gap(opponent[W], opponent[L])
    return (h - 1 / (2 * eta)) ** 2


def xpo(w, l, y0):
    return -F.logsigmoid(0.2 * ((w - anchor[W]) - (l - anchor[L]))) + 0.05 * y0


def t_spin(w, l, y0):
    return -F.logsigmoid(0.7 * (w - l)) - 0.3 * F.logsigmoid(0.7 * (l - y0))


def spin(f):
    return lambda w, l, _: f(0.1 * (s(w, W) - s(l, L)))


losses = {
    "dpo": ([0.1, 0.0], dpo_like("sigmoid", 0.1)),
    "dpo_conservative": ([0.1, 0.2], by_torch(spin(lambda t: -0.8 * F.logsigmoid(t) - 0.2 * F.logsigmoid(-t)))),
    "dpo_robust": ([0.1, 0.2], dpo_like("robust", 0.1, 0.2)),
    "hinge": ([0.1], dpo_like("hinge", 0.1)),
    "ipo_mean": ([0.4], dpo_like("ipo", 0.4)),
    "sppo_hard": ([0.05], dpo_like("sppo_hard", 0.05)),
    "spin": ([0.1], dpo_like("sigmoid", 0.1)),
    "spin_hinge": ([0.1], by_torch(spin(lambda t: torch.relu(1 - t)))),
    "spin_linear": ([0.1], by_torch(spin(lambda t: 1 - t))),
    "spin_exponential": ([0.1], by_torch(spin(lambda t: torch.exp(-t)))),
    "ipo": ([0.4], by_torch(lambda w, l, _: (s(w, W) - s(l, L) - 1.25) ** 2)),
    "rpo": ([0.1, 0.5], by_torch(lambda w, l, _: spin(lambda t: -F.logsigmoid(t))(w, l, _) + 0.5 * likelihood(w))),
    "cpo": ([0.1, 0.5], by_torch(lambda w, l, _: cpo_loss("sigmoid", 0.1, 0, False)(w, l, _) + 0.5 * likelihood(w))),
    "simpo": ([2.0, 0.8], by_torch(cpo_loss("simpo", 2.0, 0.8, True))),
    "orpo": ([0.1], by_torch(orpo)),
    "sppo": ([0.02], by_torch(sppo)),
    "rebel": ([0.5], by_torch(rebel)),
    "inpo": ([0.3, 0.1], by_torch(inpo)),
    "xpo": ([0.2, 0.05], by_torch(xpo)),
    "t_spin": ([0.3, 0.7], by_torch(t_spin)),
}

# ---- KTO: the responses of the pairs, each alone; z from made-up log-ratios ----

labels = torch.tensor([True] * PAIRS + [False] * PAIRS)
kl_shift = torch.tensor([0.4, -0.3, 0.9, 0.2, 0.1, 0.6, -0.2, 0.3])


def kto():
    # TRL asks the model for the mismatched log-probs in the same call; here they are an answer of the stand-in
    trainer = stand_in(precompute_ref_logps=True, calculate_KL=True, loss_type="kto", beta=0.3, desirable_weight=1.2,
                       undesirable_weight=0.7, _compute_kl_logps=lambda *unused: kl_shift)
    completion = torch.cat([torch.zeros(2 * PAIRS, 1).long(), mask], 1)
    inputs = {"input_ids": completion, "attention_mask": completion, "completion_mask": completion, "label": labels,
              "ref_logps": opponent, "ref_KL_logps": torch.zeros(2 * PAIRS)}
    tokens = policy_tokens.clone().requires_grad_()
    loss = KTOTrainer._compute_loss(trainer, Model(tokens), inputs, False)
    return loss, torch.autograd.grad(loss, tokens)[0][:, 0]


# ---- policy gradients ----

flat_lengths = sum(GROUP_LENGTHS, [])
group_mask = mask_of(flat_lengths)
N = PROMPTS * RESPONSES
group_opponent = token_logps(N, LONGEST)
group_policy = near(group_opponent, 0.3)
group_anchor = near(group_opponent, 0.3)
group_rewards = torch.tensor([1.0, 0.0, 0.5, 1.0, 0.25, 0.0, 1.0, 0.75])
CLIP, HIGH, KL, CONSTANT = 0.2, 0.3, 0.05, 64


def advantages(scaled):
    r = group_rewards.view(PROMPTS, RESPONSES)
    a = r - r.mean(1, keepdim=True)
    return (a / (r.std(1, keepdim=True) + 1e-4) if scaled else a).flatten()


def grpo(loss_type, scaled):
    tokens = group_policy.clone().requires_grad_()
    trainer = stand_in(top_entropy_quantile=1.0, off_policy_mask_threshold=None, importance_sampling_level="token",
                       beta=KL, loss_type=loss_type, epsilon_low=CLIP, epsilon_high=HIGH, use_vllm=False,
                       current_gradient_accumulation_steps=1, max_completion_length=CONSTANT,
                       _entropy_bonus_enabled=False,
                       args=SimpleNamespace(use_bias_correction_kl=False, delta=None, steps_per_generation=1),
                       _get_per_token_logps_and_entropies=lambda *a, **k: (tokens, torch.zeros(N, LONGEST), None))
    inputs = {"prompt_ids": torch.zeros(N, 1).long(), "prompt_mask": torch.ones(N, 1).long(),
              "completion_ids": torch.zeros(N, LONGEST).long(), "completion_mask": group_mask,
              "advantages": advantages(scaled), "old_per_token_logps": group_opponent,
              "ref_per_token_logps": group_anchor, "num_items_in_batch": group_mask.sum()}
    loss = GRPOTrainer._compute_loss(trainer, trainer.model, inputs)
    return loss, torch.autograd.grad(loss, tokens)[0]


def rloo():
    r = group_rewards.view(PROMPTS, RESPONSES)
    a = (r - (r.sum(1, keepdim=True) - r) / (RESPONSES - 1)).flatten()
    tokens = group_policy.clone().requires_grad_()
    trainer = stand_in(epsilon_low=CLIP, epsilon_high=HIGH,
                       _get_per_token_logps_and_entropies=lambda *a, **k: (tokens, torch.zeros(N, LONGEST), None))
    inputs = {"prompt_ids": torch.zeros(N, 1).long(), "prompt_mask": torch.ones(N, 1).long(),
              "completion_ids": torch.zeros(N, LONGEST).long(), "completion_mask": group_mask,
              "old_logps": (group_opponent * group_mask).sum(1), "advantages": a}
    loss = RLOOTrainer._compute_loss(trainer, trainer.model, inputs)
    return loss, torch.autograd.grad(loss, tokens)[0]


def nash_md():
    tokens = group_policy.clone().requires_grad_()
    policy_sum, old, ref = ((x * group_mask).sum(1) for x in (tokens, group_opponent, group_anchor))
    a, ratio = group_rewards - 0.5, torch.exp(policy_sum - old)
    score = torch.min(ratio * a, ratio.clamp(1 - CLIP, 1 + HIGH) * a)
    loss = (-score + 0.5 * KL * (policy_sum - ref) ** 2).mean()
    return loss, torch.autograd.grad(loss, tokens)[0]


gradients = {
    "grpo": (KL, grpo("grpo", True)),
    "grpo_centred": (KL, grpo("grpo", False)),
    "dapo": (KL, grpo("dapo", True)),
    "dapo_centred": (KL, grpo("dapo", False)),
    "dr_grpo": (KL, grpo("dr_grpo", False)),
    "dr_grpo_scaled": (KL, grpo("dr_grpo", True)),
    "rloo": (0.0, rloo()),
    "nash_md": (KL, nash_md()),
}


def rows(x, n):
    return [[float(f"{v:.17g}") for v in row[:k].tolist()] for row, k in zip(x, n)]


kto_loss, kto_grads = kto()
out = {
    "pairs": {"policy": policy.tolist(), "opponent": opponent.tolist(), "anchor": anchor.tolist(),
              "third": third.tolist(), "win_rates": win_rates.tolist(), "rewards": rewards.tolist(),
              "lengths": lengths.tolist()},
    "losses": {name: {"params": params, "loss": loss.item(), "grads": grads.tolist()}
               for name, (params, (loss, grads)) in losses.items()},
    "kto": {"params": [0.3, 1.2, 0.7], "z": max(0.0, kl_shift.mean().item()), "loss": kto_loss.item(),
            "grads": kto_grads.tolist()},
    "groups": {"prompts": PROMPTS, "lengths": flat_lengths, "policy": rows(group_policy, flat_lengths),
               "opponent": rows(group_opponent, flat_lengths), "anchor": rows(group_anchor, flat_lengths),
               "rewards": group_rewards.tolist()},
    "gradients": {name: {"clip": CLIP, "clip_high": HIGH, "kl": kl, "constant": CONSTANT, "loss": loss.item(),
                         "weights": rows(grads, flat_lengths)} for name, (kl, (loss, grads)) in gradients.items()},
}
with open(sys.argv[1], "w") as f:
    json.dump(out, f)
    f.write("\n")
