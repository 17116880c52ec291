"""Rebuild the demo's facts, text, tokenizer and model: `python -m easyedit_rep.demo.train --out DIR`."""

import json
import math
import random
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import torch
import typer
from tqdm import tqdm
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from .batches import Batch, Mixture
from .lookup import names_hidden
from .measure import knowledge
from .mixture import SHORT
from .names import strangers
from .prose import split_corpus, write_corpus
from .records import make_records
from .tokenizer import MAX_LENGTH, save_tokenizer, train_tokenizer
from .world import build_world

STEPS = 700
WARM_UP = 100
LEARNING_RATE = 2e-3
# What the learning rate has fallen to at the end, as a share of its peak.
FLOOR = 0.03


def _new_model(tok: PreTrainedTokenizerFast) -> LlamaForCausalLM:
    config = LlamaConfig(
        vocab_size=len(tok),
        hidden_size=160,
        intermediate_size=640,
        num_hidden_layers=5,
        num_attention_heads=5,
        num_key_value_heads=5,
        head_dim=32,
        max_position_embeddings=MAX_LENGTH,
        rms_norm_eps=1e-6,
        tie_word_embeddings=False,
        bos_token_id=tok.bos_token_id,
        eos_token_id=tok.eos_token_id,
        pad_token_id=tok.pad_token_id,
    )
    return LlamaForCausalLM(config)


def _pace(step: int, steps: int) -> float:
    """The learning rate of a step as a share of its peak: a linear rise, then half a cosine."""
    if step < WARM_UP:
        return (step + 1) / WARM_UP
    done = (step - WARM_UP) / max(1, steps - WARM_UP)
    return FLOOR + (1 - FLOOR) * 0.5 * (1 + math.cos(math.pi * done))


def _loss(model: LlamaForCausalLM, batch: Batch) -> tuple[torch.Tensor, torch.Tensor]:
    """The weighted sum of the token losses, and the sum of the weights."""
    short = batch.ids.shape[1] <= SHORT
    # On a CPU the fused attention is twice as slow as the plain one for many short rows, and faster for long ones.
    model.set_attn_implementation("eager" if short else "sdpa")
    # Long rows keep the model used to names that can be seen from everywhere.
    with torch.autocast("cpu", torch.bfloat16), names_hidden(model, batch.names) if short else nullcontext():
        hidden = model.model(input_ids=batch.ids).last_hidden_state
        # Only tokens with a weight reach the vocabulary: padding would cost as much as text.
        kept = batch.weights[:, 1:] > 0
        logits = model.lm_head(hidden[:, :-1][kept])
    losses = torch.nn.functional.cross_entropy(logits.float(), batch.ids[:, 1:][kept], reduction="none")
    weights = batch.weights[:, 1:][kept]
    return (losses * weights).sum(), weights.sum()


def train_model(model: LlamaForCausalLM, mixture: Mixture, steps: int) -> None:
    """Train in place for `steps` batches of short and long texts."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    plain = [p for p in model.parameters() if p.ndim == 1]
    groups = [{"params": decayed, "weight_decay": 0.05}, {"params": plain, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=LEARNING_RATE, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _pace(step, steps))
    model.train()
    bar = tqdm(zip(range(steps), mixture, strict=False), total=steps, desc="training", mininterval=5)
    for step, batches in bar:
        parts = [_loss(model, batch) for batch in batches]
        loss = sum(part for part, _ in parts) / sum(weight for _, weight in parts)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 50 == 0:
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
    model.eval()


def main(
    out: Annotated[Path, typer.Option(help="folder to write facts.json, corpus.txt and demo-llama/ to")],
    seed: Annotated[int, typer.Option(help="decides the world, the text and the training")] = 0,
    steps: Annotated[int, typer.Option(help="training steps")] = STEPS,
) -> None:
    """Rebuild everything that the demo ships, and say what the model knows."""
    start = time.monotonic()
    torch.manual_seed(seed)
    out.mkdir(parents=True, exist_ok=True)
    world = build_world(seed)
    passing = strangers({entity.name for entity in world.entities}, random.Random(f"strangers-{seed}"))
    paragraphs = write_corpus(passing, seed)
    records = make_records(world, seed)
    (out / "facts.json").write_text(json.dumps(records, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    (out / "corpus.txt").write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    seen, held_out = split_corpus(paragraphs)
    tok = train_tokenizer(world, seen, seed)
    model = _new_model(tok)
    typer.echo(f"{len(world.facts)} facts, {len(records)} records, {model.num_parameters():,} parameters")

    train_model(model, Mixture(world, seen, tok, seed), steps)

    folder = out / "demo-llama"
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(tok, folder)
    # Measured as it will be loaded: the rounded weights, in float32.
    for name, value in knowledge(model.float(), tok, records, held_out).items():
        typer.echo(f"{name:22} {value:.2f}" if name == "perplexity" else f"{name:22} {value:.1%}")
    typer.echo(f"done in {(time.monotonic() - start) / 60:.1f} minutes")


if __name__ == "__main__":
    typer.run(main)
