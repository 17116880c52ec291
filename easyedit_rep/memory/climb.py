"""Reading the keys of the same rows at one layer after another, while what is made from each acts below the next."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from torch import Tensor, nn

from ..anatomy import Anatomy
from .keys import read_token_keys


class Climb:
    """Keys of every token of `rows`, asked for from the lowest layer up.

    What came into the layer last asked for is kept, (tokens, d) in the model's dtype, and the next is reached from there: layers below do
    not run again. So nothing below the layer last asked for may change in the meantime; that layer itself may.
    """

    def __init__(self, anatomy: Anatomy, rows: Sequence[Sequence[int]]):
        self.anatomy, self.rows = anatomy, rows
        self._layer = 0
        self._inputs: dict[int, Tensor] = {}  # of each batch: what comes into that layer
        self._in_tuples = False  # whether layers give their output in a tuple

    def token_keys(self, layer: int) -> list[Tensor]:
        """[(len(row), D) float32, …] at `layer`, in the order of `rows`, with the model as it is.

        Raises:
            EditError: a key is NaN or infinite.
        """
        if layer <= self._layer:
            self._inputs = {}
        found: dict[int, Tensor] = {}
        keys = read_token_keys(self.anatomy, self.rows, [layer], lambda batch: self._from_below(batch, layer, found))[layer]
        self._layer, self._inputs = layer, found
        return keys

    @contextmanager
    def _from_below(self, batch: int, layer: int, found: dict[int, Tensor]) -> Iterator[None]:
        """A forward inside starts from what is kept of `batch`, if anything is, and what comes into `layer` is put into `found`."""

        def note(_module, args, kwargs):
            found[batch] = (args[0] if args else kwargs["hidden_states"]).detach()

        def look(_module, _args, out):
            self._in_tuples = isinstance(out, tuple)

        kept = self._inputs.get(batch)
        with ExitStack() as stack:
            stack.callback(self.anatomy.layer(layer).register_forward_pre_hook(note, with_kwargs=True).remove)
            if layer and (kept is None or not self._layer):
                stack.callback(self.anatomy.layer(0).register_forward_hook(look).remove)
            for below in range(self._layer if kept is not None else 0):
                stack.enter_context(_giving(self.anatomy.layer(below), (kept,) if self._in_tuples else kept))
            yield


@contextmanager
def _giving(module: nn.Module, output: object) -> Iterator[None]:
    """`module` does nothing but give `output` inside."""
    outer = module.__dict__.get("forward")
    module.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        del module.forward
        if outer is not None:
            module.forward = outer
