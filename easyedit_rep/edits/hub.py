"""Saved edits on the Hugging Face hub: nothing but their three files and a card is sent or fetched."""

import tempfile
from pathlib import Path

from ..errors import EditError
from .artefact import CONFIG, RECORD, TENSORS, Artefact

FILES = (TENSORS, CONFIG, RECORD)


def found(source: str | Path, revision: str | None = None) -> Path:
    """The folder of `source`: itself, or where the hub's copy lies.

    Raises:
        EditError: it is neither a folder nor a repository that can be reached.
    """
    path = Path(source)
    if path.exists() or not isinstance(source, str) or source.count("/") != 1 or source.startswith((".", "/", "~")):
        return path
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(source, revision=revision, allow_patterns=list(FILES)))
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        said = " ".join(str(error).split())[:200]
        raise EditError(f"{source} is no folder here, and no repository that can be fetched from the hub: {said}") from error


def push(artefact: Artefact, repo_id: str, *, private: bool = False, revision: str | None = None, token: str | None = None) -> str:
    """Upload `artefact` to `repo_id`, made if it is not there; returns the address of the commit.

    Raises:
        EditError: the hub cannot be reached, or does not take it.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    api = HfApi(token=token)
    with tempfile.TemporaryDirectory() as folder:
        artefact.write(folder)
        try:
            repo_id = api.create_repo(repo_id, private=private, exist_ok=True).repo_id  # with the user's name, where that was left out
            if revision is not None:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            (Path(folder) / "README.md").write_text(card(artefact, repo_id), encoding="utf-8")
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                allow_patterns=[*FILES, "README.md"],
                commit_message=f"{len(artefact.edits)} knowledge edit{'s' * (len(artefact.edits) != 1)}",
            )
        # The bases of its own error are those of the client it talks through, whichever that is: no network is one of them.
        except (OSError, HFValidationError, *HfHubHTTPError.__bases__) as error:
            said = " ".join(str(error).split())[:200] or type(error).__name__
            raise EditError(f"cannot push to {repo_id}: {said}; see that the name is yours, and log in with `hf auth login`") from error
    return getattr(commit, "commit_url", str(commit))


def card(artefact: Artefact, repo_id: str) -> str:
    """The repository's README: what is in it and how it is loaded."""
    base = artefact.model["name"]
    facts = [(edit.method, r) for edit in artefact.edits for r in edit.requests]
    rows = "\n".join(f"| {method} | {_cell(r.text)} | {_cell(r.ground_truth or '')} | {_cell(r.target_new)} |" for method, r in facts[:100])
    more = f"\n\n… and {len(facts) - 100} more in `{RECORD}`." if len(facts) > 100 else ""
    return f"""---
library_name: peft
tags: [knowledge-editing, easyedit_rep]
{f"base_model: {base}" if base.count("/") == 1 and not base.startswith((".", "/")) else "base_model: []"}
---
# Knowledge edits of {base or artefact.model["type"]}

| method | prompt | before | after |
|---|---|---|---|
{rows}{more}

```python
from easyedit_rep import load_edits

edits = load_edits(model, "{repo_id}")  # written into the weights, bit for bit; edits[0].undo() takes one out again
```

or, with the weights left as they are, `PeftModel.from_pretrained(model, "{repo_id}")` after `import easyedit_rep`.
"""


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")
