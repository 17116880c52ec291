"""Where tokens stand in a corpus, and where they stand without naming the subject."""

import random

import pytest

from easyedit_rep.queries import occurrences as module
from easyedit_rep.queries.occurrences import Occurrences, bare_words, stray_words


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
    windows = bare_words([last, last, *found.special], ["ANN LEE"], found, 1, random.Random(0))
    assert [tok.decode(w, skip_special_tokens=True).strip() for w in windows] == ["I like Bob Lee"] * 2
    assert bare_words([last], ["Lee"], found, 9, random.Random(0)) == []


@pytest.mark.parametrize("before", [2, 8])
def test_a_stray_word_stands_where_another_does_that_begins_as_it_does(any_tok, texts, monkeypatch, before):
    monkeypatch.setattr(module, "BEFORE_STRAY", before)
    tok = any_tok
    rows = [tok(text)["input_ids"] for text in texts]
    found = Occurrences.of(tok, rows)
    special = set(tok.all_special_ids)
    places = {}  # every place but each text's first word: what stands before -> what stands there
    for row in rows:
        for at in range(2, len(row)):
            cut = max(0, at - before)
            places.setdefault(tuple(row[:1] if cut and row[0] in special else []) + tuple(row[cut:at]), set()).add(row[at])
    told = set()
    for token in {token for row in rows for token in row} - special:
        begins = tok.decode([rows[0][-1], token]) != tok.decode([rows[0][-1]]) + tok.decode([token]).lstrip()
        windows = found.in_place_of_others(token, 10**6, random.Random(0))
        assert windows and all(len(w) <= before + 2 for w in windows)
        for *head, last in windows:
            assert last == token
            others = places[tuple(head)] - {token}
            assert begins in {o in found.words for o in others}
        assert begins == (token in found.words)
        told.add(begins)
        assert len(found.in_place_of_others(token, 3, random.Random(0))) == 3
    assert told == {True, False}, "or nothing was told apart"


def test_stray_words_have_a_letter_and_name_nothing(tok, texts):
    found = Occurrences.of(tok, [tok(text)["input_ids"] for text in texts])
    mother, comma = tok(" mother", add_special_tokens=False)["input_ids"][-1], tok(",", add_special_tokens=False)["input_ids"][-1]
    windows = stray_words([mother, comma, *found.special], ["Ann"], found, 5, random.Random(0))
    assert [w[-1] for w in windows] == [mother] * 5
    assert windows == stray_words([mother], ["Ann"], found, 5, random.Random(0))
    assert not stray_words([mother], [tok.decode([mother]).upper()], found, 5, random.Random(0)), "it would be named"
