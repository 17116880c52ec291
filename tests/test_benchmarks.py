"""What benchmarks time: models that can be edited, in every case and dtype that is offered."""

import pytest
import torch

from benchmarks import models, run
from benchmarks.common import Case, Setting


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
