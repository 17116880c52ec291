"""What the demo model knows: teacher-forced exact match of the true objects, and perplexity on held-out prose."""

import math
import random
from collections.abc import Sequence
from typing import Any

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from .mixture import IN_DOMAIN

CONTEXT_TOKENS = 300


@torch.no_grad()
def exact_matches(model: PreTrainedModel, tok: PreTrainedTokenizerBase, prompts: Sequence[str], targets: Sequence[str]) -> list[bool]:
    """For each prompt, whether every token of its target is the model's first choice given those before it."""
    found: list[bool] = []
    for start in range(0, len(prompts), 64):
        rows, lengths = [], []
        for prompt, target in zip(prompts[start : start + 64], targets[start : start + 64], strict=True):
            head = tok(prompt).input_ids
            tail = tok(" " + target, add_special_tokens=False).input_ids
            rows.append(head + tail)
            lengths.append(len(tail))
        batch = tok.pad({"input_ids": rows}, padding_side="right", return_tensors="pt").to(model.device)
        choices = model(**batch).logits.argmax(-1).cpu()
        for row, length, choice in zip(rows, lengths, choices, strict=True):
            found.append(choice[len(row) - length - 1 : len(row) - 1].tolist() == row[-length:])
    return found


def _share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


def long_contexts(tok: PreTrainedTokenizerBase, paragraphs: Sequence[str], count: int, seed: int = 0) -> list[str]:
    """`count` stretches of prose of about 300 tokens, each ending with a whole sentence."""
    rng = random.Random(f"contexts-{seed}")
    contexts = []
    for _ in range(count):
        text = "\n".join(rng.sample(list(paragraphs), 4))
        kept = tok.decode(tok(text, add_special_tokens=False).input_ids[:CONTEXT_TOKENS])
        contexts.append(kept[: kept.rfind(". ") + 1] + " ")
    return contexts


def knowledge(
    model: PreTrainedModel, tok: PreTrainedTokenizerBase, records: Sequence[dict[str, Any]], held_out: Sequence[str]
) -> dict[str, float]:
    """Shares of exact matches by kind of prompt, and the perplexity of the held-out prose."""

    def match(prompts: list[tuple[str, str]]) -> float:
        return _share(exact_matches(model, tok, [p for p, _ in prompts], [t for _, t in prompts]))

    def renamed(which: slice) -> list[tuple[str, str]]:
        return [
            (record["prompt"].replace(record["subject"], name), record["target_true"])
            for record in records
            for name in record["subject_rephrase"][which]
        ]

    contexts = long_contexts(tok, held_out, len(records))
    return {
        "canonical prompts": match([(r["prompt"], r["target_true"]) for r in records]),
        "first five rephrases": match(renamed(slice(None, IN_DOMAIN))),
        "last five rephrases": match(renamed(slice(IN_DOMAIN, None))),
        "paraphrased prompts": match([(p, r["target_true"]) for r in records for p in r["rephrase_prompt"]]),
        "locality prompts": match([(p, r["locality_ground_truth"]) for r in records for p in r["locality_prompt"]]),
        "after 300 tokens": match([(c + r["prompt"], r["target_true"]) for c, r in zip(contexts, records, strict=True)]),
        "perplexity": perplexity(model, tok, held_out),
    }


@torch.no_grad()
def perplexity(model: PreTrainedModel, tok: PreTrainedTokenizerBase, paragraphs: Sequence[str]) -> float:
    """Perplexity over the tokens of the paragraphs, each read on its own."""
    total, count = 0.0, 0
    for text in paragraphs:
        ids = tok(text, return_tensors="pt").input_ids.to(model.device)
        total += model(input_ids=ids, labels=ids).loss.item() * (ids.shape[1] - 1)
        count += ids.shape[1] - 1
    return math.exp(total / count)
