"""Lively random weights: attention is peaked, norms are not 1, biases and positions matter.

A model with the usual initialisation (std 0.02) hardly notices its own attention, so a program
could drop it and still agree. Here every class of tensor moves the result; neutralized() shows it.
"""
import re
import zlib

import numpy as np
import torch


def seed_of(name):
    return zlib.crc32(name.encode())


def is_norm(name, tensor):
    return tensor.dim() == 1 and re.search(r"norm\d*\.weight$", name.lower()) is not None


def draw(rng, name, tensor, gain):
    """Values of one tensor; gain scales the attention projections only."""
    z = torch.from_numpy(rng.standard_normal(tuple(tensor.shape)))
    lower = name.lower()
    if is_norm(name, tensor):
        base = 1.4 if re.search(r"[qk]_norm", lower) else 1.0
        return base + 0.3 * z
    if lower.endswith(".bias"):
        return 0.3 * z
    if re.search(r"word_embeddings|embed_tokens", lower):
        return z
    if "position_embeddings" in lower or "token_type_embeddings" in lower:
        return 0.7 * z
    fan_in = tensor.shape[-1]
    if re.search(r"(q_proj|k_proj|query|key)\.weight$", lower):
        return 1.6 * gain * z / fan_in**0.5
    if re.search(r"(score|classifier|out_proj)(\.2)?\.weight$", lower):
        return 1.5 * z / fan_in**0.5
    return z / fan_in**0.5


@torch.no_grad()
def fill(module, name, gain, dtype, inexact=None):
    """Overwrites every parameter, rounded to dtype so that storing it in dtype loses nothing.

    inexact: a pattern of names that keep all of float32's bits although dtype is narrower.
    """
    rng = np.random.Generator(np.random.PCG64(seed_of(name)))
    for key, tensor in sorted(module.named_parameters()):
        value = draw(rng, key, tensor, gain).to(torch.float32)
        if inexact is None or not re.search(inexact, key):
            value = value.to(dtype)
        tensor.copy_(value.to(tensor.dtype))


def tensor_class(name):
    return re.sub(r"\.\d+\.", ".*.", name)


# Softmax does not see what it adds to all keys alike; only a rotated key bias can matter.
WITHOUT_EFFECT = re.compile(r"attention\.self\.key\.bias$")


@torch.no_grad()
def neutralized(module, which):
    """Sets a class of tensors to what "not applied" would mean; returns what undoes it."""
    saved = []
    for key, tensor in module.named_parameters():
        if tensor_class(key) == which:
            saved.append((tensor, tensor.clone()))
            tensor.copy_(torch.ones_like(tensor) if is_norm(key, tensor)
                         else torch.zeros_like(tensor))

    def undo():
        with torch.no_grad():
            for tensor, value in saved:
                tensor.copy_(value)
    return undo
