"""Other names of subjects, asked of an OpenAI-compatible service: OpenAI itself, or a local vLLM, Ollama … server."""

import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path

from filelock import FileLock

from ..errors import EditError
from ..files import replace_json
from .answers import parse_names, valid_names

log = logging.getLogger(__name__)

PROMPT = "Give {N} rephrases representing the same entity: {ENTITY}"
"""The REP paper's (appendix B.1), with its 10 as {N}."""


class AnswerCache:
    """What one model answered to one prompt, by subject, in one JSON file of a folder; on the disk as soon as it is known.

    Raises:
        EditError: the file is there and is not such a file, or cannot be written.
    """

    def __init__(self, folder: Path, model: str, prompt: str):
        about = {"model": model, "prompt": prompt}
        digest = sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()[:12]
        slug = "".join(c if c.isalnum() or c in ".-" else "_" for c in model)
        self.path = folder / f"{slug}-{digest}.json"
        self._about = about
        self.answers: dict[str, str] = self._read()

    def _read(self) -> dict[str, str]:
        if not self.path.exists():
            return {}
        try:
            data = json.loads(self.path.read_text(encoding="utf-8"))
            if {key: data[key] for key in self._about} != self._about:
                raise ValueError("it is of another model or prompt")
            return dict(data["answers"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise EditError(f"cannot take up {self.path} ({error}): move it away to ask again") from None

    def add(self, subject: str, answer: str) -> None:
        """Keep `answer`, on the disk when this returns, beside what other processes have asked for meanwhile."""
        self.answers[subject] = answer
        make_folder(self.path)
        with FileLock(self.path.with_name(f"{self.path.name}.lock")):
            self.answers = {**self._read(), **self.answers}
            write_json(self.path, {**self._about, "answers": self.answers})


def write_json(path: Path, data: Mapping) -> None:
    """Replace `path` whole, its folder made if need be."""
    make_folder(path)
    try:
        replace_json(path, data)
    except OSError as error:
        raise EditError(f"cannot write {path}: {error.strerror}; give another place") from error


def make_folder(path: Path) -> None:
    """The folder that `path` is to lie in."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EditError(f"cannot write {path}: {error.strerror}; give another place") from error


@dataclass
class Rephraser:
    """Asks for other names of a subject, once in its life.

    Attributes:
        cache: folder of answers.
        model, base_url: which service; a `base_url` of None is OpenAI's.
        n: names asked for.
        attempts: questions asked before a subject whose answers hold no name is given up.
        max_retries: of a request that the service refuses or does not answer, with growing pauses (the openai client's own).
    """

    cache: Path
    model: str = "gpt-4o-mini"
    base_url: str | None = None
    n: int = 10
    attempts: int = 3
    max_retries: int = 6
    timeout: float = 60.0
    _client: object = field(default=None, init=False, repr=False)

    def __post_init__(self):
        if self.n < 1:
            raise EditError(f"n: {self.n} is not positive")
        self._answers = AnswerCache(self.cache, self.model, PROMPT.replace("{N}", str(self.n)))

    def __contains__(self, subject: str) -> bool:
        """Whether the answer is known already."""
        return subject in self._answers.answers

    def names(self, subject: str) -> tuple[str, ...]:
        """At most `n` other names of `subject`; () where the service gives none in `attempts` answers, which is asked again next time.

        Raises:
            EditError: no `openai` package, no key, or a service that does not answer; what is known is kept.
        """
        if subject in self:
            return self._parsed(subject, self._answers.answers[subject])
        for _ in range(self.attempts):
            answer = self._ask(subject)
            if names := self._parsed(subject, answer):
                self._answers.add(subject, answer)
                return names
        log.warning("%s gave no other name of %r in %d answers; the last: %.80r", self.model, subject, self.attempts, answer)
        return ()

    def _parsed(self, subject: str, answer: str) -> tuple[str, ...]:
        return valid_names(subject, parse_names(answer))[: self.n]

    def _ask(self, subject: str) -> str:
        client = self.client
        import openai

        text = PROMPT.replace("{N}", str(self.n)).replace("{ENTITY}", subject)
        try:
            said = client.chat.completions.create(model=self.model, messages=[{"role": "user", "content": text}])
            return said.choices[0].message.content or ""
        except (openai.OpenAIError, LookupError, AttributeError, TypeError) as error:
            reason = " ".join(str(error).split())[:200]
            raise EditError(
                f"{self.base_url or 'OpenAI'} did not answer for {subject!r} ({type(error).__name__}: {reason}): finished subjects are "
                "kept, run the same command again to go on"
            ) from error

    @property
    def client(self):
        """The service's client, made at the first question: what is known needs neither the package nor a key."""
        if self._client is None:
            self._client = _connect(self.base_url, self.max_retries, self.timeout)
        return self._client


def _connect(base_url: str | None, max_retries: int, timeout: float):
    try:
        from openai import OpenAI
    except ImportError:
        raise EditError('the openai package is not installed: pip install "easyedit_rep[openai]"') from None
    # A server of one's own asks for no key, but the client insists on some text.
    key = os.environ.get("OPENAI_API_KEY") or ("none" if base_url else None)
    if key is None:
        raise EditError("OPENAI_API_KEY is unset: set it, or give --base-url of a server that needs no key")
    return OpenAI(api_key=key, base_url=base_url, max_retries=max_retries, timeout=timeout)
