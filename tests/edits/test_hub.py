"""To and from the Hugging Face hub, which is not there in these tests."""

from types import SimpleNamespace

import huggingface_hub
import pytest
import torch
from huggingface_hub.errors import HfHubHTTPError

from easyedit_rep import EditError, load_edits
from easyedit_rep.edits.artefact import CONFIG, RECORD, TENSORS


class Hub:
    """Keeps what is pushed, in a folder a repository."""

    def __init__(self, root):
        self.root, self.calls = root, []

    def __call__(self, token=None):
        self.calls.append(("token", token))
        return self

    def create_repo(self, repo_id, *, private, exist_ok):
        self.calls.append(("create", repo_id, private, exist_ok))
        whole = repo_id if "/" in repo_id else f"someone/{repo_id}"
        (self.root / whole).mkdir(parents=True, exist_ok=exist_ok)
        return SimpleNamespace(repo_id=whole)

    def create_branch(self, repo_id, *, branch, exist_ok):
        self.calls.append(("branch", repo_id, branch, exist_ok))

    def upload_folder(self, *, repo_id, folder_path, revision, allow_patterns, commit_message):
        from pathlib import Path

        self.calls.append(("upload", revision, commit_message))
        for path in Path(folder_path).iterdir():
            if path.name in allow_patterns:
                (self.root / repo_id / path.name).write_bytes(path.read_bytes())
        return type("CommitInfo", (), {"commit_url": f"https://hub/{repo_id}/commit/1"})()

    def snapshot_download(self, repo_id, *, revision, allow_patterns):
        self.calls.append(("download", repo_id, revision, sorted(allow_patterns)))
        if not (self.root / repo_id).exists():
            raise FileNotFoundError(f"{repo_id} is not in the cache,\nand the hub is out of reach")
        return str(self.root / repo_id)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    hub = Hub(tmp_path / "hub")
    monkeypatch.setattr(huggingface_hub, "HfApi", hub)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", hub.snapshot_download)
    return hub


def test_pushed_and_loaded(hub, carrying, make_model, logits):
    model, ledger, edits = carrying({}, {"pathways": 0})
    assert ledger.push_to_hub("someone/two-edits", private=True, token="t") == "https://hub/someone/two-edits/commit/1"
    assert hub.calls == [("token", "t"), ("create", "someone/two-edits", True, True), ("upload", None, "2 knowledge edits")]
    assert {path.name for path in (hub.root / "someone/two-edits").iterdir()} == {TENSORS, CONFIG, RECORD, "README.md"}
    card = (hub.root / "someone/two-edits/README.md").read_text()
    assert card.startswith("---\nlibrary_name: peft") and "| random | Person 0 lives in |  | Town 0 |" in card
    assert 'load_edits(model, "someone/two-edits")' in card
    twin = make_model("llama")
    load_edits(twin, "someone/two-edits", revision="v1")
    assert hub.calls[-1] == ("download", "someone/two-edits", "v1", sorted([TENSORS, CONFIG, RECORD]))
    assert torch.equal(logits(twin), logits(model))
    edits[1].push_to_hub("someone/one-edit")
    assert hub.calls[-1] == ("upload", None, "1 knowledge edit")


def test_a_repository_that_cannot_be_reached(hub, llama):
    with pytest.raises(EditError, match=r"nobody/nothing is no folder here, and no repository .* out of reach") as caught:
        load_edits(llama, "nobody/nothing")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "error",
    [OSError("Token is required,\nyet no token found"), HfHubHTTPError.__bases__[0]("Connection refused")],
    ids=lambda e: type(e).__name__,
)
def test_a_push_that_fails_is_one_line(hub, carrying, monkeypatch, error):
    def refuse(*_args, **_options):
        raise error

    monkeypatch.setattr(hub, "create_repo", refuse)
    with pytest.raises(EditError, match=r"cannot push to someone/edits: .*; see that the name is yours, and log in") as caught:
        carrying({})[2][0].push_to_hub("someone/edits")
    assert "\n" not in str(caught.value)


def test_a_path_is_never_taken_for_a_repository(hub, llama, tmp_path):
    for source in ("./some/thing", str(tmp_path / "a"), "~/edits", "plain", tmp_path / "b" / "c"):
        with pytest.raises(EditError, match="holds no saved edits"):
            load_edits(llama, source)
    assert not hub.calls


def test_the_users_name_may_be_left_out_and_a_revision_is_made(hub, carrying):
    _, ledger, _ = carrying({})
    assert ledger.push_to_hub("one-edit", revision="v1") == "https://hub/someone/one-edit/commit/1"
    assert ("branch", "someone/one-edit", "v1", True) in hub.calls
    assert 'load_edits(model, "someone/one-edit")' in (hub.root / "someone/one-edit/README.md").read_text()
