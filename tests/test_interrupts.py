"""Ctrl-C at any point of putting edits in and taking them out, and memory that runs out twice, leave a model its ledger knows."""

import signal
import subprocess
import sys
import threading

import pytest
import torch

from easyedit_rep import RobustEditor
from easyedit_rep.interrupts import uninterrupted
from easyedit_rep.ledger import Ledger
from easyedit_rep.memory.delta import Delta
from easyedit_rep.pathway.layer import RepLayer
from easyedit_rep.pathway.model import layers_of
from easyedit_rep.request import EditRequest
from easyedit_rep.sequence.state import LayerState

NAMES = ("Ann Lee", "Danielle", "Paris")
REQUESTS = [EditRequest("{} plays the", name, "piano", subject_rephrase=(f"the {name}", "she")) for name in NAMES]


@pytest.fixture(autouse=True)
def heard():
    """Ctrl-C is KeyboardInterrupt, also where a shell started the tests in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def ctrl_c(monkeypatch):
    """Call it with a class and the name of a method: Ctrl-C is pressed in its n-th call from then on, once."""

    def press(owner, name, n=1, patch=monkeypatch):
        real, calls = getattr(owner, name), []

        def method(self, *args, **kwargs):
            calls.append(name)
            if len(calls) == n:
                signal.raise_signal(signal.SIGINT)
            return real(self, *args, **kwargs)

        patch.setattr(owner, name, method)

    return press


def state(editor):
    ids = torch.tensor([[1, 17, 40, 99, 7, 250]])
    with torch.no_grad():
        weights = {n: p.clone() for n, p in editor.model.named_parameters() if ".rep_" not in n}
        return weights, editor.model(input_ids=ids).logits, [p.requires_grad for p in weights.values()]


def same(one, other):
    return all(torch.equal(one[0][n], other[0][n]) for n in one[0]) and torch.equal(one[1], other[1])


@pytest.mark.parametrize("n", [1, 2, 3])
@pytest.mark.parametrize("base", ["ROME", "D4S"])
def test_taking_all_edits_out_is_finished(editor, ctrl_c, base, n):
    options = {"base": base}
    method = {"method": {"mom2_update_weight": 5.0, "d4s": {}}} if base == "D4S" else {}
    mine, fresh = editor(hparams=method, **options), editor(hparams=method, **options)
    before = state(mine)
    for request in REQUESTS:
        mine.apply(request)
    ctrl_c(RepLayer, "delete_adapter", n)
    with pytest.raises(KeyboardInterrupt):
        mine.ledger.undo_all()
    assert same(state(mine), before) and not layers_of(mine.model) and not mine.ledger.handles
    mine.apply(REQUESTS[0])  # a sequence's memory is empty too
    fresh.apply(REQUESTS[0])
    assert same(state(mine), state(fresh))


@pytest.mark.parametrize(("owner", "name"), [(RepLayer, "update_layer"), (RepLayer, "set_adapter"), (Delta, "add_to"), (Ledger, "_write")])
@pytest.mark.parametrize("base", ["ROME", "D4S"])
def test_an_edit_is_in_or_it_is_not(editor, ctrl_c, base, owner, name):
    mine = editor(hparams={"method": {"mom2_update_weight": 5.0, "d4s": {}}} if base == "D4S" else {}, base=base)
    mine.install(mine.base_edit(REQUESTS[1]))
    before, flags = state(mine), [p.requires_grad for p in mine.model.parameters()]
    edit = mine.robustify(mine.base_edit(REQUESTS[0]))
    with pytest.MonkeyPatch.context() as patch:
        ctrl_c(owner, name, patch=patch)
        with pytest.raises(KeyboardInterrupt):
            mine.install(edit)
    assert not edit.active and len(mine.ledger.handles) == 1 and not layers_of(mine.model) and same(state(mine), before)
    assert [p.requires_grad for p in mine.model.parameters()] == flags
    mine.install(edit)
    edit.undo()
    assert same(state(mine), before)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_memory_that_runs_out_again_while_the_model_is_given_back(editor, monkeypatch, dtype, caplog):
    mine: RobustEditor = editor(hparams={"layers": [1, 2], "method": {"mom2_update_weight": 5.0}}, base="MEMIT", pathways=False)
    mine.model.to(dtype)
    first, second = (mine.base_edit(request) for request in REQUESTS[:2])
    before = state(mine)
    mine.install(first)
    alone = state(mine)
    mine.install(second)
    real, calls = Ledger.total, []

    def total(self, layer, deltas):
        calls.append(layer)
        if len(calls) > 1:
            raise torch.OutOfMemoryError("no room")
        return real(self, layer, deltas)

    with monkeypatch.context() as patch:
        patch.setattr(Ledger, "total", total)
        with pytest.raises(torch.OutOfMemoryError):
            first.undo()
        assert first.active and "cannot be given back yet (no room)" in caplog.text
        with pytest.raises(torch.OutOfMemoryError):
            mine.ledger.save("nowhere")
    second.undo()
    assert same(state(mine), alone)
    first.undo()
    assert same(state(mine), before) and not mine.ledger._original and not mine.ledger._torn


def test_memory_that_runs_out_again_leaves_a_sequence_no_pair_of_a_refused_edit(editor, monkeypatch, caplog):
    options = {"layers": [1, 2], "method": {"mom2_update_weight": 5.0, "d4s": {}}}
    mine, fresh = (editor(hparams=options, base="D4S", pathways=False) for _ in range(2))
    for some in (mine, fresh):
        some.apply(REQUESTS[0])
    refused = mine.base_edit(REQUESTS[1])
    real, calls = LayerState.append, []

    def append(self, *pair):
        calls.append(pair)
        if len(calls) > 1:
            raise torch.OutOfMemoryError("no room")
        return real(self, *pair)

    with monkeypatch.context() as patch:
        patch.setattr(LayerState, "append", append)
        with pytest.raises(torch.OutOfMemoryError):
            mine.install(refused)
        assert not refused.active and "cannot be filled again yet (no room)" in caplog.text
        with pytest.raises(torch.OutOfMemoryError):
            mine.ledger.save("nowhere")
    for some in (mine, fresh):
        some.apply(REQUESTS[2])
    assert same(state(mine), state(fresh))


def test_a_process_that_lets_ctrl_c_end_it_is_ended():
    code = "import signal\nfrom easyedit_rep.interrupts import uninterrupted\nsignal.signal(signal.SIGINT, signal.SIG_DFL)\n"
    code += "with uninterrupted():\n    signal.raise_signal(signal.SIGINT)\n    print('finished', flush=True)\nprint('went on')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "finished\n" and done.returncode == -signal.SIGINT


def test_ctrl_c_is_heard_when_the_step_has_ended_and_at_once_elsewhere():
    steps = []

    @uninterrupted()
    def outer():
        with uninterrupted():
            signal.raise_signal(signal.SIGINT)
            steps.append(1)
        steps.append(2)

    with pytest.raises(KeyboardInterrupt):
        outer()
    assert steps == [1, 2] and signal.getsignal(signal.SIGINT) is signal.default_int_handler
    with pytest.raises(ValueError, match="other"), uninterrupted():
        raise ValueError("other")
    thread = threading.Thread(target=uninterrupted()(lambda: steps.append(3)))
    thread.start()
    thread.join()
    assert steps == [1, 2, 3]
