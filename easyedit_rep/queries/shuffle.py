"""Shuffled subjects: distinct permutations of the subject's token ids, decoded by the tokenizer."""

import math
import random


def shuffled_subjects(tok, subject: str, n: int, seed: int) -> tuple[str, ...]:
    """Up to `n` distinct texts, each a permutation of the subject's tokens and none equal to the subject.

    A subject of one token has none; a short one has fewer than `n`. Fixed by `seed` and `subject`.
    """
    # With a leading space, as in running text: word boundaries then survive the permutation in byte-level and SentencePiece alike.
    ids = tok(" " + subject.strip(), add_special_tokens=False)["input_ids"]
    if len(ids) < 2:
        return ()
    rng = random.Random(f"shuffle/{seed}/{subject}")
    seen = {subject.strip(): None}
    # Repeated tokens and merges make fewer distinct texts than n!, hence the bound on attempts.
    for _ in range(20 * min(n + 1, math.factorial(min(len(ids), 8)))):
        if len(seen) > n:
            break
        text = tok.decode(rng.sample(ids, len(ids)), skip_special_tokens=True, clean_up_tokenization_spaces=False).strip()
        if text and "�" not in text:
            seen.setdefault(text)
    return tuple(seen)[1:]
