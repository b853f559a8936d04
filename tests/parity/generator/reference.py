"""What a tiny model's answer is, by torch and transformers, one text at a time, without padding."""
import copy
import math

import numpy as np
import torch
import transformers
from torch import nn

# Qwen's reward models are not part of transformers; these two follow their public model cards:
# the transformer, then nn.Sequential(Linear(h, h), ReLU, Linear(h, n_labels)) on every token.


class RewardModel(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.model = transformers.Qwen2Model(config)
        self.score = nn.Sequential(
            nn.Linear(config.hidden_size, config.hidden_size), nn.ReLU(),
            nn.Linear(config.hidden_size, config.num_labels))

    def forward(self, input_ids, **_):
        hidden = self.model(input_ids=input_ids).last_hidden_state
        return transformers.modeling_outputs.TokenClassifierOutput(logits=self.score(hidden))


def error(a, b):
    """max |a - b| / max(1, max |b|), b the reference; over one request's numbers."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape, (a.shape, b.shape)
    return float(np.abs(a - b).max() / max(1.0, np.abs(b).max()))


def _rms_norm_f64(norm):
    def forward(x):
        return norm.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True)
                                              + norm.variance_epsilon))
    return forward


def _rotary_f64(rotary):
    """Angles as transformers makes them (float32), cosines and sines of them in float64."""
    frequencies = rotary.inv_freq.float().clone()

    def forward(x, position_ids):
        angles = position_ids[:, :, None].float() * frequencies[None, None, :]
        angles = torch.cat((angles, angles), -1).double()
        return angles.cos() * rotary.attention_scaling, angles.sin() * rotary.attention_scaling
    return forward


def without_f32(net):
    """transformers goes down to float32 inside RMSNorm, RoPE and the eager softmax whatever the
    weights are: those are replaced, in the net itself, before it becomes float64. RoPE's float32
    angles are kept, since they are part of what the model computes and not of how exactly."""
    for module in net.modules():
        if type(module).__name__.endswith("RotaryEmbedding"):
            module.forward = _rotary_f64(module)
        if type(module).__name__.endswith("RMSNorm"):
            module.forward = _rms_norm_f64(module)
        if hasattr(module, "config") and hasattr(module.config, "_attn_implementation"):
            module.config._attn_implementation = "sdpa"


def in_f64(net):
    """The same net in float64."""
    net = copy.deepcopy(net).eval()
    without_f32(net)
    return net.double()


def check_frequencies(net):
    """RoPE frequencies must be the float32 numbers that correctly rounded powers give: a last bit
    more or less in one of them moves an angle by more than the bound at position 150."""
    for module in net.modules():
        if type(module).__name__.endswith("RotaryEmbedding") and module.rope_type != "llama3":
            rope = module.config.rope_parameters
            n = len(module.inv_freq)
            exponents = np.arange(0, 2 * n, 2, dtype=np.float32) / np.float32(2 * n)
            powers = np.power(float(rope["rope_theta"]), exponents.astype(np.float64))
            want = np.float32(1) / powers.astype(np.float32)
            want = want / np.float32(rope.get("factor", 1.0))
            assert np.array_equal(module.inv_freq.float().numpy(), want), "another rope_theta"


class Pipeline:
    """A net with what stands on it: Dense modules, pooling, activation."""

    def __init__(self, net, has_types, dense=()):
        self.net, self.has_types, self.dense = net.eval(), has_types, list(dense)

    def double(self):
        return Pipeline(in_f64(self.net), self.has_types,
                        [copy.deepcopy(d).double() for d in self.dense])

    @torch.no_grad()
    def rows(self, ids, types, how):
        """[n_rows, n_columns] of one request. how: see table.py, Group.how."""
        inputs = {"input_ids": torch.tensor([ids])}
        if self.has_types:
            inputs["token_type_ids"] = torch.tensor([types])
        out = self.net(**inputs)
        x = out.logits if "logits" in out else out.last_hidden_state
        x = pooled(x[0] if x.dim() == 3 else x, ids, how)
        for dense in self.dense:
            x = dense(x)
        return finished(x, how).numpy()


def pooled(x, ids, how):
    pool = how.get("pool", "model")
    if pool == "STEP":
        keep = [i for i, t in enumerate(ids) if t == how["step_tag"]]
        x = x[keep]
        return x[:, how["columns"]] if "columns" in how else x
    if pool == "MEAN":
        return x.mean(0, keepdim=True)
    return {"LAST": x[-1:], "CLS": x[:1], "ALL": x, "model": x}[pool]


def finished(x, how):
    if "dimensions" in how:
        x = x[:, :how["dimensions"]]
    if how.get("normalize"):
        x = x / x.norm(dim=-1, keepdim=True).clamp_min(1e-12)
    act = how.get("act")
    if act == "softmax":
        return torch.softmax(x, -1)
    return torch.sigmoid(x) if act == "sigmoid" else x


def is_finite(rows):
    return all(math.isfinite(v) for v in np.asarray(rows).ravel())
