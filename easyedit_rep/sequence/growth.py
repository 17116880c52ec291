"""How large a sequence may make the weights."""

from collections.abc import Sequence as Several

from ..errors import EditError
from ..ledger import Ledger, mean_abs
from ..memory.delta import Delta


def check_growth(ledger: Ledger, layer: int, deltas: Several[Delta], number: int, limit: float | None) -> None:
    """Raise `EditError` where W₀ + Σ `deltas`, with edit `number`, would have a mean |w| above `limit` (`max_norm_growth`) times W₀'s."""
    if limit is None:
        return
    growth = mean_abs(ledger.total(layer, deltas)) / mean_abs(ledger.original(layer))
    if growth > limit:
        raise EditError(
            f"edit {number} would make the mean |w| of layer {layer} {growth:.3f} times the original's, above "
            f"max_norm_growth {limit}: it was not made; raise mom2_update_weight, remove edits, or raise the limit"
        )
