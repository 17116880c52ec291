"""REP, the robust edit pathway: an adapter on the key, as a PEFT tuner (`peft_type: REP`).

Importing this package registers the tuner, which is what lets `PeftModel.from_pretrained` load a saved pathway.
"""

from .config import RepConfig
from .layer import RepLayer
from .model import RepModel, register

register()

__all__ = ["RepConfig", "RepLayer", "RepModel"]
