"""Tokens of ordinary text at which pathways open, counted by hand."""

import pytest
import torch
from torch import nn

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.evaluation.false_fires import false_fires, mentions
from easyedit_rep.memory.keys import read_token_keys
from easyedit_rep.pathway import RepConfig
from easyedit_rep.pathway.model import attach, layers_of


def attach_detector(model, name, weight, bias, layers=(1,)):
    names = [Anatomy(model).names.rewrite_module_tmp.format(i) for i in layers]
    state = {"rep_gate.weight": weight[None], "rep_gate.bias": torch.tensor([bias]), "rep_key.weight": torch.zeros(len(weight), 1)}
    attach(model, name, RepConfig(target_modules=names, kind="closed", inference_mode=True), dict.fromkeys(names, state))


@pytest.fixture
def direction():
    return nn.functional.normalize(torch.randn(48, generator=torch.Generator().manual_seed(0)), dim=0)


def test_counts_equal_those_of_the_keys(llama, tok, texts, direction):
    rows = [tok(text)["input_ids"] for text in texts[:20]]
    scores = torch.cat(read_token_keys(Anatomy(llama), rows, [1])[1]) @ direction
    bar = scores.quantile(0.9).item()
    attach_detector(llama, "a", direction, -bar)
    attach_detector(llama, "b", -direction, -bar)
    found = false_fires(llama, tok, texts[:20], 10**6)
    a, b = int((scores > bar).sum()), int((-scores > bar).sum())
    assert found.tokens == len(scores)
    assert found.by_pathway == {"a": a, "b": b}
    assert found.fires == a + b, "two opposite half-spaces"
    assert a > 10
    assert found.per_10_000 == pytest.approx(1e4 * (a + b) / len(scores))
    assert not any(layer._forward_pre_hooks for layer in layers_of(llama).values())


def test_a_token_counts_once_however_many_open_in_however_many_layers(llama, tok, texts, direction):
    attach_detector(llama, "a", 0 * direction, 1.0, layers=(1, 2))
    attach_detector(llama, "b", 0 * direction, 1.0)
    found = false_fires(llama, tok, texts, 50)
    assert found == (50, 50, {"a": 50, "b": 50}, 0)


def test_a_pathway_is_right_to_open_at_its_own_subjects_name(llama, tok, direction):
    texts = ["He met Anne Redpath there.", "Anne Redpath and Anne", "Nobody at all came to the old house by the river that night."]
    rows = [tok(text)["input_ids"] for text in texts]
    attach_detector(llama, "a", 0 * direction, 1.0)
    attach_detector(llama, "b", 0 * direction, -1.0)
    total, name = sum(map(len, rows)), len(tok(" Anne Redpath", add_special_tokens=False)["input_ids"])
    first = len(tok("Anne Redpath", add_special_tokens=False)["input_ids"])
    found = false_fires(llama, tok, texts, 10**6, subjects={"a": "Anne Redpath", "b": "He"})
    assert found == (total, total - name - first, {"a": total - name - first, "b": 0}, name + first)
    attach_detector(llama, "c", 0 * direction, 1.0)
    found = false_fires(llama, tok, texts, 10**6, subjects={"a": "Anne Redpath", "b": "He"})
    assert found.fires == total, "another's name is no excuse"
    assert mentions(tok, torch.tensor(rows[1]), "Anne Redpath").tolist() == [False] + [True] * first + [False] * (len(rows[1]) - 1 - first)
    assert not mentions(tok, torch.tensor([1, 2]), "a name that is longer than all of the text").any()


def test_where_a_subject_is_named_in_full(any_tok):
    rows = [any_tok(text)["input_ids"] for text in ("Ann Lee lived in Paris. I like Ann Lee", "Lee Ann is", "Ann")]
    found = mentions(any_tok, torch.tensor([token for row in rows for token in row]), "Ann Lee").split([len(row) for row in rows])
    told = [any_tok.decode([t for t, yes in zip(row, mask, strict=True) if yes]).split() for row, mask in zip(rows, found, strict=True)]
    assert told == [["Ann", "Lee", "Ann", "Lee"], [], []] or told == [["Ann", "LeeAnn", "Lee"], [], []]


def test_a_name_does_not_end_in_padding(llama, tok, direction):
    subject, texts = f"Anne{tok.decode([0])}", ["Nobody at all came to the old house by the river", "He and all of them met Anne"]
    assert tok(" " + subject, add_special_tokens=False)["input_ids"][-1] == 0, "what rows are padded with"
    attach_detector(llama, "a", 0 * direction, 1.0)
    assert false_fires(llama, tok, texts, 10**6, subjects={"a": subject}).named == 0


def test_without_pathways_or_text_there_is_nothing_to_count(llama, tok, texts, direction):
    with pytest.raises(EditError, match="no pathways"):
        false_fires(llama, tok, texts, 10)
    attach_detector(llama, "a", direction, 0.0)
    with pytest.raises(EditError, match="no text"):
        false_fires(llama, tok, [], 10)


def test_layers_whose_pathways_are_gone_have_none(llama, tok, texts, direction):
    attach_detector(llama, "a", direction, 0.0)
    for layer in layers_of(llama).values():
        layer.set_adapter([])
    with pytest.raises(EditError, match="no pathways"):
        false_fires(llama, tok, texts, 10)
