"""Cached values are the optimised ones, are found only where everything agrees, and survive damage."""

from dataclasses import replace

import pytest
import torch

from easyedit_rep import files
from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory import value_cache
from easyedit_rep.memory.tokens import Prompt
from easyedit_rep.memory.value_cache import cached_values
from easyedit_rep.memory.values import ValueConfig, ValueTask, optimise_values

TASKS = [
    ValueTask(Prompt("The mother tongue of ", "Danielle Darrieux", " is"), "Spanish", ("", "I like. ")),
    ValueTask(Prompt("", "Ann Lee", " plays the"), "piano", ("",)),
]
CONFIG = ValueConfig(v_num_grad_steps=4, v_lr=0.1, v_weight_decay=0.5, clamp_norm_factor=0.5, kl_factor=0.3)


@pytest.fixture
def asked(monkeypatch):
    """How many values each call of the optimiser was asked for."""
    calls = []

    def counted(anatomy, tok, layer, tasks, config, block):
        calls.append(len(tasks))
        return optimise_values(anatomy, tok, layer, tasks, config, block)

    monkeypatch.setattr(value_cache, "optimise_values", counted)
    return calls


def same(a, b):
    return torch.equal(a.initial, b.initial) and torch.equal(a.change, b.change) and a.numbers() == b.numbers()


def test_only_what_is_missing_is_made(llama, tok, tmp_path, asked):
    anatomy = Anatomy(llama)
    first = cached_values(tmp_path, anatomy, tok, 1, TASKS[:1], CONFIG)
    both = cached_values(tmp_path, anatomy, tok, 1, TASKS, CONFIG)
    again = cached_values(tmp_path, anatomy, tok, 1, TASKS[::-1], CONFIG)
    assert asked == [1, 1]
    assert same(first[0], both[0])
    assert same(both[0], again[1]) and same(both[1], again[0])
    assert same(first[0], optimise_values(anatomy, tok, 1, TASKS[:1], CONFIG)[0])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".safetensors"] * 2


def test_everything_it_depends_on_is_in_the_key(llama, tok, make_tokenizer, make_model, tmp_path, asked):
    (task,), anatomy = TASKS[:1], Anatomy(llama)
    cached_values(tmp_path, anatomy, tok, 1, [task], CONFIG)
    other = make_model("llama")
    other.model.layers[1].mlp.down_proj.weight.data += 0.01  # W of the edited layer itself
    for changed in (
        (anatomy, tok, 2, task, CONFIG, "mlp"),
        (anatomy, tok, 1, task, CONFIG, "layer"),
        (anatomy, tok, 1, task, replace(CONFIG, v_lr=0.2), "mlp"),
        (anatomy, tok, 1, replace(task, target="French"), CONFIG, "mlp"),
        (anatomy, tok, 1, replace(task, contexts=("",)), CONFIG, "mlp"),
        (anatomy, tok, 1, replace(task, prompt=task.prompt._replace(suffix=" was")), CONFIG, "mlp"),
        (anatomy, make_tokenizer("no_bos"), 1, task, CONFIG, "mlp"),
        (Anatomy(other), tok, 1, task, CONFIG, "mlp"),
        (Anatomy(make_model("llama").to(torch.bfloat16)), tok, 1, task, CONFIG, "mlp"),
    ):
        before = len(asked)
        a, t, layer, what, config, block = changed
        cached_values(tmp_path, a, t, layer, [what], config, block)
        assert len(asked) == before + 1, changed


def test_a_damaged_file_is_made_again(llama, tok, tmp_path, asked):
    anatomy = Anatomy(llama)
    (value,) = cached_values(tmp_path, anatomy, tok, 1, TASKS[:1], CONFIG)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:40])
    assert same(cached_values(tmp_path, anatomy, tok, 1, TASKS[:1], CONFIG)[0], value)
    assert same(cached_values(tmp_path, anatomy, tok, 1, TASKS[:1], CONFIG)[0], value)
    assert asked == [1, 1]


def test_a_full_disk_is_said_in_one_line(llama, tok, tmp_path, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(files, "save_file", full)
    with pytest.raises(EditError, match=r"No space left on device.*leave out rep\.value_cache"):
        cached_values(tmp_path, Anatomy(llama), tok, 1, TASKS[:1], CONFIG)
    assert not list(tmp_path.iterdir())
