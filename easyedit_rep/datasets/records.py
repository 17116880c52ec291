"""Records in the REP paper's format: facts with paraphrases, neighbours and ten other names of the subject."""

import json
from pathlib import Path

from ..errors import EditError
from ..request import EditRequest, Question


def load_records(path: str | Path) -> list[EditRequest]:
    """Requests from a JSON list of REP records.

    A record has `prompt`, `subject`, `target_new`, `target_true`, and optionally `rephrase_prompt` (list or null),
    `locality_prompt` (list, all answered by `locality_ground_truth`) and `subject_rephrase` (list).

    Raises:
        EditError: unreadable file, or a record that names its index and what is wrong with it.
    """
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise EditError(f"cannot read {path}: {error}") from None
    if not isinstance(data, list) or not data:
        raise EditError(f"{path} holds no list of records")
    return [_request(path, index, record) for index, record in enumerate(data)]


def _request(path, index: int, record: dict) -> EditRequest:
    try:
        answer = record.get("locality_ground_truth")
        neighbours = tuple(Question(p, answer) for p in record.get("locality_prompt") or ())
        return EditRequest(
            prompt=record["prompt"],
            subject=record["subject"],
            target_new=record["target_new"],
            ground_truth=record["target_true"],
            rephrase_prompts=tuple(p for p in record.get("rephrase_prompt") or () if p.strip()),
            locality={"neighborhood": neighbours} if neighbours else {},
            subject_rephrase=tuple(s for s in record.get("subject_rephrase") or () if s.strip()),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise EditError(f"{path}: record {index} lacks or misuses {error}") from None
    except EditError as error:
        raise EditError(f"{path}: record {index}: {error}") from None
