"""What benchmarks time: models that can be edited, in every case and dtype that is offered."""

import pytest
import torch

from benchmarks import gates, models, run
from benchmarks.common import Case, Setting
from easyedit_rep.errors import EditError
from easyedit_rep.rep_options import RepOptions


def test_settings_of_a_larger_model_give_as_many_layers_of_a_smaller_one():
    assert models.fitting([17], 12) == [4]
    assert models.fitting([13, 14, 15, 16, 17], 12) == [4, 5, 6, 7, 8]
    assert models.fitting([4, 5, 6], 16) == [4, 5, 6]


def test_every_random_model_has_settings_for_every_case(monkeypatch):
    asked = []
    monkeypatch.setattr(models, "random_model", lambda name, *_: asked.append(name) or 1 / 0)
    for name in models.SHAPES:
        for base in ("ROME", "MEMIT", "EMMET", "D4S"):
            with pytest.raises(ZeroDivisionError):  # past its YAML
                models.editor_of(Setting(name), base)
    assert set(asked) == set(models.SHAPES)


def test_easyedits_twin_of_a_trained_model_is_the_same_model_in_float32():
    setting = Setting("demo", dtype=torch.bfloat16)
    editor = models.editor_of(setting)
    twin = models.twin(editor, setting)
    weight = twin.model.lm_head.weight
    assert weight.dtype == torch.float32 and torch.equal(weight.bfloat16(), editor.model.lm_head.weight)
    assert twin.memory.contexts == editor.memory.contexts and twin.memory.anatomy.model is twin.model


def test_peak_memory_is_of_the_case_whatever_its_title_says_there(monkeypatch, tmp_path):
    """As the number of steps in it, which another process may round to."""
    started = []
    monkeypatch.setattr(run.subprocess, "run", lambda command, **_: started.append(command) or 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run.peaks(Case("an edit, 30 to 30 steps", {"native: fast": None}, "native: fast"), "rome_edit", 2)
    assert started[0][-4:] == ["--cases", "rome_edit", "--memory-of", "2:native: fast"]


def test_gates_are_asked_with_other_options_and_no_unknown_ones():
    rep = gates.changed(RepOptions(), "closed.margin=0.75,text_tokens=50000,training.stray_words=3")
    assert (rep.closed.margin, rep.text_tokens, rep.training.stray_words) == (0.75, 50_000, 3)
    assert gates.changed(rep, "") is rep
    for wrong in ("closed.margins=1", "text=5", "nothing.margin=1", "text_tokens.margin=1"):
        with pytest.raises(EditError, match=wrong.partition("=")[0]):
            gates.changed(RepOptions(), wrong)
