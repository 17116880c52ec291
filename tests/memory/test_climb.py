"""Keys of one layer after another are those of a fresh forward, though the layers below do not run again."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from easyedit_rep.anatomy import Anatomy
from easyedit_rep.errors import EditError
from easyedit_rep.memory.climb import Climb
from easyedit_rep.memory.keys import read_token_keys
from easyedit_rep.memory.linear import fast_linears


def assert_equal(found, want):
    for one, other in zip(found, want, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("layers", [(0, 1, 2), (1, 3), (2,)])
def test_what_changes_in_the_layer_last_asked_for_is_seen(model, rows, layers):
    anatomy = Anatomy(model)
    climb = Climb(anatomy, rows)
    for layer in layers:
        before = read_token_keys(anatomy, rows, [layer])[layer]
        assert_equal(climb.token_keys(layer), before)
        with torch.no_grad():
            anatomy.weight(layer).add_(0.3)
    assert not any(m._forward_pre_hooks or m._forward_hooks or "forward" in m.__dict__ for m in model.modules())


class Block(nn.Module):
    """A layer of a decoder as earlier releases of transformers had it: its output comes in a tuple."""

    def __init__(self, runs):
        super().__init__()
        self.down, self.runs = nn.Linear(4, 4), runs

    def forward(self, hidden_states, attention_mask=None):
        self.runs.append(self)
        return (hidden_states + self.down(hidden_states.tanh()),)


class Decoder(nn.Module):
    def __init__(self, runs):
        super().__init__()
        self.embed, self.blocks = nn.Embedding(9, 4), nn.ModuleList(Block(runs) for _ in range(4))

    def forward(self, input_ids, attention_mask, use_cache):
        hidden = self.embed(input_ids)
        for block in self.blocks:
            hidden = block(hidden, attention_mask=attention_mask)[0]
        return hidden


@pytest.mark.parametrize("first", [0, 1])
def test_layers_below_do_not_run_again_whatever_they_give_their_output_in(first):
    runs = []
    decoder = Decoder(runs)
    blocks = decoder.blocks
    anatomy = SimpleNamespace(
        model=decoder, decoder=decoder, embedding_device=torch.device("cpu"), layer=blocks.__getitem__, rewrite=lambda i: blocks[i].down
    )
    rows = [[1, 2, 3], [4, 5]]
    climb = Climb(anatomy, rows)
    for layer in range(first, 4):
        want = read_token_keys(anatomy, rows, [layer])[layer]
        runs.clear()
        assert_equal(climb.token_keys(layer), want)
        assert runs == list(blocks[0 if layer == first else layer - 1 : layer + 1])
        with torch.no_grad():
            blocks[layer].down.weight.add_(0.3)


def test_a_lower_layer_is_read_from_the_bottom(llama, rows):
    anatomy = Anatomy(llama)
    climb = Climb(anatomy, rows)
    climb.token_keys(3)
    with torch.no_grad():
        anatomy.weight(0).add_(0.3)
    assert_equal(climb.token_keys(2), read_token_keys(anatomy, rows, [2])[2])


def test_inside_fast_linears_and_after_an_error_all_is_as_it_was(llama, rows):
    anatomy = Anatomy(llama)
    climb = Climb(anatomy, rows)
    with fast_linears(llama):
        forwards = {m: m.__dict__.get("forward") for m in llama.modules()}
        climb.token_keys(1)
        with torch.no_grad():
            anatomy.weight(1)[0, 0] = torch.nan
        with pytest.raises(EditError, match="layer 2 gives NaN"):
            climb.token_keys(2)
        assert {m: m.__dict__.get("forward") for m in llama.modules()} == forwards
    assert not any(m._forward_pre_hooks or m._forward_hooks for m in llama.modules())
