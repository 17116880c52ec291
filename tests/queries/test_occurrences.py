"""Where tokens stand in a corpus, and where they stand without naming the subject."""

import random
from itertools import islice

import pytest

from easyedit_rep.queries import occurrences as module
from easyedit_rep.queries.occurrences import Occurrences, bare_words, spellings


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


def test_words_too_rare_in_the_corpus_are_put_where_they_might_stand(tok):
    text = "the Ann Lee of a Bamboo House , 5 or Ann\\"
    found = Occurrences.of(tok, [tok(text)["input_ids"]])
    tokens = [tok(w, add_special_tokens=False)["input_ids"][-1] for w in (" and", "Lee", ")")]
    word, piece, mark = spellings(tok, tokens)
    assert word.begins and word.letters and not piece.begins and not mark.letters
    for token, spelling in zip(tokens, (word, piece, mark), strict=True):
        made = [tok.decode(w[:-1], skip_special_tokens=True) for w in islice(found.made(token, spelling, random.Random(0)), 60)]
        assert all(m.strip() in text for m in made)
        ends = {m.split()[-1] for m in made}
        if spelling is piece:
            assert len(ends) > 3 and not ends & set(text.split()), "a piece goes on with the beginning of a word"
        else:
            assert ends == {"Ann", "Lee", "Bamboo", "House"}
    windows = bare_words(tok, tokens[:1], ["Bamboo and", "Ann and"], found, 9, random.Random(0), tokens)
    assert len(windows) == 9, "as many as there should be"
    assert {tok.decode(w).split()[-2] for w in windows} == {"Lee", "House"}
    assert bare_words(tok, tokens[:1], ["Ann"], found, 9, random.Random(0), tokens[1:]) == []


def test_a_corpus_without_names_makes_none(tok):
    found = Occurrences.of(tok, [tok("we like tea")["input_ids"]])
    (word,) = tok(" and", add_special_tokens=False)["input_ids"]
    assert bare_words(tok, [word], ["Ann"], found, 9, random.Random(0), [word]) == []


def test_how_tokens_are_written_does_not_hang_on_what_they_follow(any_tok):
    rows = [any_tok(text)["input_ids"] for text in ("The Ann Lee of a House", "and Ann")]
    found = Occurrences.of(any_tok, rows)
    for at in found.name_ends.tolist():
        assert any_tok.decode(found.ids[found.starts[at] : at + 1], skip_special_tokens=True).split()[-1] in ("The", "Ann", "Lee", "House")
