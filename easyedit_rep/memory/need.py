"""How much memory editing takes on the model's device: an estimate from shapes alone, made before anything is."""

import torch

from ..anatomy import Anatomy
from ..errors import EditError
from .tokens import token_budget
from .values import REPLAYED_TOKENS

GIB = 2**30
FORMS = 16
"""Tokens a request's suffix is taken to have: the subject's last one, the rest of the prompt, the target."""


def estimate(anatomy: Anatomy, hparams, batch: bool) -> dict[str, int]:
    """Bytes by what they are for, on the device of the edited layers.

    Counted to the byte: weights, the copies of W that undoing and a running edit need, C with its Cholesky factor (where it is kept
    there), the memory of a sequence, the sums that C is made from where they take more than all that comes after, pathways while they are
    trained (parameter, gradient, Adam's two), those of a batch's other facts, keys of ordinary text. Estimated from above: the graph of
    the optimisation of v* for Llama's kind of layer, the last logits, the matrices of a closed-form pathway, and the keys read for any.

    Args:
        batch: the base method optimises several requests at once; a pathway's value is fitted in steps of as many tokens.
    """
    device = anatomy.weight(hparams.layers[0]).device
    config = anatomy.model.config.get_text_config()
    dtype = anatomy.weight(hparams.layers[0]).dtype
    size, hidden, vocabulary = anatomy.key_size(hparams.layers[0]), config.hidden_size, config.vocab_size
    gated, memories = len(hparams.pathway_layers), len(hparams.memory_layers)
    layers, above = len(hparams.layers), anatomy.n_layers - min(hparams.layers)
    tensors = [t for t in (*anatomy.model.parameters(), *anatomy.model.buffers()) if t.device == device]  # tied ones come once
    written = [anatomy.weight(layer) for layer in hparams.layers]
    lengths = hparams.context_template_length_params or []
    rows = 2 + sum(n for _, n in lengths)
    prefix = 32 + max((length for length, _ in lengths), default=0)
    fitted = hparams.rep.pathways and hparams.rep.fits_values
    tokens = REPLAYED_TOKENS if batch or fitted else min(REPLAYED_TOKENS, rows * FORMS)
    # A token's share of the graph: what norms keep in float32, and what attention and the MLP keep in the model's dtype.
    graph = tokens * (24 * hidden + dtype.itemsize * (8 * hidden + 4 * size)) + (tokens // FORMS) * prefix * 4 * hidden * dtype.itemsize
    need = {
        "weights": sum(t.numel() * t.itemsize for t in tensors),
        "copies of W": 2 * sum(w.numel() * w.itemsize for w in written),
        "statistics": 16 * size * size * memories if hparams.rep.statistics_device == "model" or device.type == "cpu" else 0,
        "optimising values": graph * above + 16 * (tokens // FORMS) * 4 * vocabulary,
    }
    if hparams.rep.base == "D4S" and not hparams.method.d4s.on_cpu:
        need["sequence"] = getattr(torch, hparams.method.d4s.dtype).itemsize * size * (size + hidden) * layers
    if hparams.rep.v_dtype is not None and getattr(torch, hparams.rep.v_dtype) != dtype:
        replayed = [p for i in range(min(hparams.layers), anatomy.n_layers) for p in anatomy.layer(i).parameters()]
        need["weights in v_dtype"] = getattr(torch, hparams.rep.v_dtype).itemsize * sum(p.numel() for p in replayed)
    if hparams.rep.pathways and hparams.rep.pathway.kind == "closed":
        # In float32: C, the sum of all second moments, that of one detector, the factor of that, and that with what is mined in between.
        held = (hparams.rep.pathway.detectors + 1) * size + hparams.rep.pathway.detectors + hidden * fitted
        matrices = 4 + (hparams.rep.closed.hard_rounds > 1)
        need["pathway"] = 4 * matrices * size * size + 4 * held * gated
    elif hparams.rep.pathways:
        shape = hparams.rep.pathway
        held = 2 * shape.rank * size + max(1, int(shape.gate_ratio * size)) * (size + 2) + 1
        need["pathway"] = 4 * 4 * held + 4 * held * (gated - 1)
    if hparams.rep.pathways:
        if batch:
            need["pathways of the batch"] = 4 * held * gated * (hparams.batch_size - 1)
        kept = dtype.itemsize * hidden * (gated > 1)  # what comes into a layer, on the way to the next
        need["reading keys"] = token_budget(device) * ((3 * dtype.itemsize + 4) * size + kept)
        if hparams.rep.pathway.kind == "closed" or hparams.rep.training.gate_negatives:
            first = hparams.rep.training.of_kind(hparams.rep.pathway.kind).first_tokens
            tokens = (hparams.rep.text_tokens + first) * gated + first  # a layer's first ones again, without the subject's own
            need["keys of text"] = dtype.itemsize * tokens * size
    # Before the first edit, if there are no statistics yet: float64 sums, a product and, on a GPU, rows.
    collecting = 8 * size * (size * (memories + 1) + (token_budget(device) if device.type == "cuda" else 0))
    more = collecting - sum(value for name, value in need.items() if name != "weights")
    return need if more <= 0 else {**need, "collecting C": more}


def check_memory(anatomy: Anatomy, hparams, batch: bool) -> None:
    """Raise `EditError` where `rep.max_memory` is less than an edit is estimated to take."""
    allowed = hparams.rep.max_memory
    if allowed is None:
        return
    need = estimate(anatomy, hparams, batch)
    total = sum(need.values()) / GIB
    if total > allowed:
        parts = ", ".join(f"{name} {value / GIB:.2g}" for name, value in sorted(need.items(), key=lambda item: -item[1])[:4])
        hints = []
        if anatomy.weight(hparams.layers[0]).dtype == torch.float32:
            hints.append("bf16: true")
        if hparams.rep.statistics_device == "model":
            hints.append("rep.statistics_device: cpu")
        if hparams.rep.v_dtype is not None:
            hints.append("rep.v_dtype: null")
        way = f"set {' or '.join(hints)}, or raise it" if hints else "raise it, or take a smaller model"
        raise EditError(f"rep.max_memory: an edit takes about {total:.3g} GiB ({parts}), {allowed:g} are allowed: {way}")
