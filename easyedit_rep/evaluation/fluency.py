"""Fluency: how little a text repeats itself (ROME, appendix; EasyEdit's `ngram_entropy`)."""

import math
import re
from collections import Counter
from collections.abc import Sequence

_WORD = re.compile(r"\w+(?:['’]\w+)?|[^\w\s]")
"""Words, numbers and single signs. ROME splits with nltk's punkt, which needs a download; the entropies differ in the second digit."""

WEIGHTS = {2: 2 / 3, 3: 4 / 3}


def ngram_entropy(text: str) -> float:
    """½ (⅔ H₂ + 4⁄3 H₃), H_n the entropy in bits of the words' n-grams; 0 for a text of fewer than three words."""
    words = _WORD.findall(text)
    return sum(weight * _entropy(words, n) for n, weight in WEIGHTS.items()) / len(WEIGHTS)


def _entropy(words: Sequence[str], n: int) -> float:
    counts = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    total = sum(counts.values())
    return -sum(c / total * math.log2(c / total) for c in counts.values()) if total else 0.0
