"""Numbers of a set of targets against one at a time."""

import math

import pytest

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.evaluation.perplexity import target_perplexities
from easyedit_rep.evaluation.target_types import target_stats
from easyedit_rep.request import EditRequest


def test_means(llama, make_tokenizer):
    requests = [
        EditRequest("Ann Lee plays the", "Ann Lee", "piano"),
        EditRequest("The road of Paris is", "Paris", "closed for several weeks"),
    ]
    for kind in ("bos", "no_bos"):
        tok, anatomy = make_tokenizer(kind), Anatomy(llama)
        found = target_stats(anatomy, tok, requests)
        lengths = [len(tok(r.text, add_special_tokens=False)["input_ids"]) for r in requests]
        whole = [len(tok(f"{r.text} {r.target_new}", add_special_tokens=False)["input_ids"]) for r in requests]
        assert (found.n, found.input_tokens) == (2, sum(lengths) / 2)
        assert found.target_tokens == (sum(whole) - sum(lengths)) / 2
        one, two = target_perplexities(anatomy, tok, [r.text for r in requests], [r.target_new for r in requests])
        assert found.perplexity == pytest.approx((one + two) / 2)
        assert found.typical == pytest.approx(math.sqrt(one * two))
