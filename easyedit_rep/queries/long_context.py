"""Long contexts: unrelated running text put before a prompt."""

import random

from ..datasets.corpus import Corpus


def cut(tok, text: str, n_tokens: int) -> str:
    """The first `n_tokens` tokens of `text`."""
    offsets = tok(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text if len(offsets) <= n_tokens else text[: offsets[n_tokens - 1][1]]


def long_contexts(tok, corpus: Corpus, subject: str, n: int, n_tokens: int, seed: int) -> tuple[str, ...]:
    """`n` stretches of consecutive corpus lines, each `n_tokens` tokens long (shorter only where the corpus is), not naming `subject`.

    Fixed by `seed` and `subject`. The text is cut at its end, by token offsets, so what follows it is never cut.
    """
    rng = random.Random(f"long/{seed}/{subject}")
    out: list[str] = []
    total = len(corpus.texts)
    for _ in range(10 * n):
        if len(out) == n:
            break
        start, parts, size = rng.randrange(total), [], 0
        # Six characters a token is more than enough for running text; the rest is cut below.
        for step in range(total):
            line = corpus.texts[(start + step) % total].strip()
            if line:
                parts.append(line)
                size += len(line) + 1
            if size > 6 * n_tokens:
                break
        text = cut(tok, " ".join(parts), n_tokens).strip()
        if subject not in text:
            out.append(text)
    return tuple(out)
