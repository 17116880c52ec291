"""EasyEdit's methods that no pathway can be put around, each with its reason.

A pathway leads other keys to the key an edit was written under. It takes a method that writes, into a down-projection that the model
goes on using, under the key of the subject's last token.
"""

_TRAINS = "by gradient descent, under no key of the subject"
_PREDICTED = "a trained network turns the gradients of every token into its update, so it writes under no key of the subject"
_NO_WEIGHTS = "it edits a model behind an API, which has no weights here"

REFUSED = {
    "CALINET": "it answers from added neurons that it trains, not from a weight a key could be led to",
    "DeCo": "it changes how tokens are chosen, not a weight",
    "DeepEdit-Api": _NO_WEIGHTS,
    "DEFER": "it puts a router and a second module in the layer's place, so its edits are not in a weight a key could be led to",
    "DINM": f"it trains a layer to refuse harmful prompts {_TRAINS}",
    "DoLa": "it changes how tokens are chosen, not a weight",
    "DPO": f"it trains low-rank adapters {_TRAINS}",
    "FT": f"it trains whole weights {_TRAINS}",
    "FT-Api": _NO_WEIGHTS,
    "FT_uns": f"it trains whole weights {_TRAINS}",
    "GRACE": "it keeps its edits in a codebook, not in a weight a key could be led to",
    "ICE": "it puts the fact into the prompt and changes no weight",
    "IKE": "it puts the fact into the prompt and changes no weight",
    "KE": _PREDICTED,
    "KN": "it rescales single neurons that it finds by attribution, and writes no value under a key",
    "LoRA": f"it trains low-rank adapters {_TRAINS}",
    "LoRA_uns": f"it trains low-rank adapters {_TRAINS}",
    "MALMEN": _PREDICTED,
    "MELO": "it keeps its edits in low-rank blocks that an index of its own chooses, not in a weight a key could be led to",
    "MEND": _PREDICTED,
    "QLoRA": f"it trains low-rank adapters {_TRAINS}",
    "SERAC": "it answers from a second model and leaves the weights as they are",
    "SimIE": "it rewrites each edit of its base_method with a running matrix of all edits before, so none could be taken out again; "
    "take the base_method itself as rep.base",
    "ULTRAEDIT": "it writes under the keys of all tokens of the prompt or answer, in the gate and up projections its inner_params name, "
    "and no pathway sits there",
    "UnKE": f"it trains every weight of a decoder layer {_TRAINS}",
    "UnKE_ARE": f"it trains every weight of a decoder layer {_TRAINS}",
    "WISE": "it keeps its edits in a side memory that a router of its own chooses, not in the weight a key is led to",
}
"""name -> why not."""
