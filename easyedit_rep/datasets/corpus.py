"""Plain text for statistics, long contexts and negatives: a file, a list of texts, or a Hugging Face dataset."""

import hashlib
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from ..errors import EditError

HUB_CORPORA = {
    "wikitext": ("Salesforce/wikitext", "wikitext-103-raw-v1"),
    "wikitext2": ("Salesforce/wikitext", "wikitext-2-raw-v1"),
    "wikipedia": ("wikimedia/wikipedia", "20231101.en"),
}
"""EasyEdit's `mom2_dataset` names -> Hugging Face dataset and configuration (train split, column `text`)."""


WORDS = 20
"""Of a text to be a paragraph, and not a heading."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Texts with a name and a digest of their content."""

    name: str
    texts: Sequence[str]
    digest: str

    @property
    def about(self) -> dict[str, str]:
        """What records of something measured on it keep."""
        return {"file": Path(self.name).name, "sha256": self.digest}

    def paragraphs(self, n: int) -> list[str]:
        """The first `n` texts of `WORDS` words or more: no headings, no blank lines.

        Raises:
            EditError: there is none.
        """
        found = list(islice((text for text in self.texts if len(text.split()) >= WORDS), n))
        if not found:
            raise EditError(f"{self.name} has no paragraph of {WORDS} words or more: give ordinary text, a paragraph a line")
        return found

    def shuffled(self, seed: int) -> Iterator[str]:
        """Every non-blank text once, in an order fixed by `seed`."""
        order = list(range(len(self.texts)))
        random.Random(seed).shuffle(order)
        for index in order:
            text = self.texts[index].strip()
            if text:
                yield text


def load_corpus(source: str | Path | Sequence[str]) -> Corpus:
    """A corpus from a text file (one paragraph a line), a list of texts, or a `HUB_CORPORA` name.

    Raises:
        EditError: no such file or name, no UTF-8, or nothing but blank text.
    """
    if not isinstance(source, (str, Path)):
        texts = list(source)
        corpus = Corpus("texts", texts, hashlib.sha256("\0".join(texts).encode()).hexdigest())
    elif Path(source).is_file():
        raw = Path(source).read_bytes()
        try:
            lines = raw.decode("utf-8").splitlines()
        except UnicodeDecodeError as error:
            raise EditError(f"corpus {str(source)!r} is not UTF-8 ({error.reason} at byte {error.start}): convert it") from None
        corpus = Corpus(Path(source).stem, lines, hashlib.sha256(raw).hexdigest())
    elif str(source) in HUB_CORPORA:
        from datasets import load_dataset

        path, config = HUB_CORPORA[str(source)]
        try:
            data = load_dataset(path, config, split="train")
        except Exception as error:
            raise EditError(f"cannot load {path}/{config}: {error}; pass a local text file instead") from error
        corpus = Corpus(str(source), data["text"], data._fingerprint)
    else:
        raise EditError(f"corpus {str(source)!r} is neither a file nor one of {', '.join(HUB_CORPORA)}")
    if not any(text.strip() for text in corpus.texts):
        raise EditError(f"corpus {str(source)!r} holds no text")
    return corpus
