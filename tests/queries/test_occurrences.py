"""Where tokens stand in a corpus, and where they stand without naming the subject."""

import random

import pytest

from easyedit_rep.queries import occurrences as module
from easyedit_rep.queries.occurrences import Occurrences, bare_words


def every(found, token):
    return sorted(map(tuple, found.windows(token, random.Random(0))))


@pytest.mark.parametrize("before", [2, 24])
def test_windows_are_every_place_with_what_stands_before(tok, texts, monkeypatch, before):
    monkeypatch.setattr(module, "BEFORE", before)
    rows = [tok(text, truncation=True, max_length=16)["input_ids"] for text in texts]
    found = Occurrences.of(tok, rows)
    special = set(tok.all_special_ids)
    for token in {row[-1] for row in rows}:
        want = []
        for row in rows:
            for at in (i for i, t in enumerate(row) if t == token):
                cut = max(0, at - before)
                want.append(tuple(row[:1] if cut and row[0] in special else []) + tuple(row[cut : at + 1]))
        assert every(found, token) == sorted(want)
    assert every(found, 10**6) == []


def test_a_word_that_names_the_subject_is_none(tok):
    found = Occurrences.of(tok, [tok(text)["input_ids"] for text in ("I like Ann Lee", "I like Bob Lee", "They like ann lee.")])
    (last,) = tok(" Lee", add_special_tokens=False)["input_ids"][-1:]
    windows = bare_words(tok, [last, last, *found.special], ["ANN LEE"], found, 1, random.Random(0))
    assert [tok.decode(w, skip_special_tokens=True).strip() for w in windows] == ["I like Bob Lee"] * 2
    assert bare_words(tok, [last], ["Lee"], found, 9, random.Random(0)) == []
