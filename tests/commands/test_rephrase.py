"""Other names from a service, here a small one of our own: retried, resumed, garbage refused."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from easyedit_rep.cli import app
from easyedit_rep.errors import EditError
from easyedit_rep.queries.endpoint import Rephraser
from easyedit_rep.queries.rephrase import load_rephrases

openai = pytest.importorskip("openai")

GOOD = "1. The {s}\n2. {s} herself\n3. THE {s}\n4. Spanish {s}"


class Service:
    """An OpenAI-compatible server: `script` is what it answers in turn (a status, or a text with {s}), then GOOD for ever."""

    def __init__(self):
        self.script, self.asked, self.headers = [], [], []
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                service.asked.append((self.path, body["model"], body["messages"][0]["content"]))
                service.headers.append({name.lower(): value for name, value in self.headers.items()})
                said = service.script.pop(0) if service.script else GOOD
                status, text = (said, "") if isinstance(said, int) else (200, said.replace("{s}", body["messages"][0]["content"][-7:]))
                choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
                about = {"id": "1", "object": "chat.completion", "created": 0, "model": body["model"]}
                data = json.dumps({**about, "choices": [choice]} if status == 200 else {"error": {"message": "out of order"}}).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *args):
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/v1"

    @property
    def subjects(self):
        return [text.split(": ")[1] for *_, text in self.asked]


@pytest.fixture
def service(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    made = Service()
    thread = threading.Thread(target=made.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield made
    made.server.shutdown()
    made.server.server_close()
    thread.join()


@pytest.fixture
def rephraser(service, tmp_path):
    return lambda **options: Rephraser(tmp_path / "answers", "small", service.url, **options)


@pytest.fixture
def data(tmp_path):
    def record(subject, **more):
        return {"prompt": f"{subject} speaks", "subject": subject, "target_new": "Spanish", "target_true": "French", **more}

    records = [record("Ann Lee"), record("Bob Ray"), record("Ann Lee"), record("Cy Dove", subject_rephrase=["Mr. Dove"])]
    (tmp_path / "facts.json").write_text(json.dumps(records))
    return tmp_path / "facts.json"


def run(data, service, *more):
    out = data.with_name("names.json")
    return out, CliRunner().invoke(app, ["rephrase", "--data", str(data), "--out", str(out), "--base-url", service.url, *more])


def test_writes_the_side_file(data, service):
    out, result = run(data, service, "--model", "small")
    assert result.exit_code == 0, result.output
    want = {"Ann Lee": ("The Ann Lee", "Ann Lee herself"), "Bob Ray": ("The Bob Ray", "Bob Ray herself")}
    assert load_rephrases(out) == want, "a repetition and a name with the target are left out, a subject that brings names is not asked"
    assert service.asked[0] == ("/v1/chat/completions", "small", "Give 10 rephrases representing the same entity: Ann Lee")
    _, result = run(data, service, "--model", "small", "--all")
    assert service.subjects == ["Ann Lee", "Bob Ray", "Cy Dove"], "only the new one is asked"
    _, result = run(data, service, "--model", "large")
    assert len(service.asked) == 5, "another model is asked anew"
    assert set(load_rephrases(out)) == {"Ann Lee", "Bob Ray", "Cy Dove"}, "names of other subjects stay"


def test_an_error_of_the_service_is_retried(rephraser, service):
    service.script = [500, 429]
    assert rephraser().names("Ann Lee") == ("The Ann Lee", "Ann Lee herself", "Spanish Ann Lee")
    assert len(service.asked) == 3


def test_garbage_is_asked_again_and_never_kept(rephraser, service, caplog):
    service.script = ["I cannot.", "1. Ann Lee", GOOD]
    assert len(rephraser().names("Ann Lee")) == 3
    service.script = ["?"] * 3
    assert rephraser().names("Bob Ray") == ()
    assert "gave no other name of 'Bob Ray' in 3 answers" in caplog.text
    assert len(rephraser().names("Bob Ray")) == 3
    assert service.subjects == ["Ann Lee"] * 3 + ["Bob Ray"] * 4


def test_a_stop_loses_no_finished_subject(data, service, monkeypatch):
    service.script = [GOOD, 400]
    out, result = run(data, service)
    assert isinstance(result.exception, EditError) and "finished subjects are kept" in str(result.exception)
    assert "\n" not in str(result.exception) and "'Bob Ray'" in str(result.exception)
    assert not out.exists()
    out, result = run(data, service)
    assert result.exit_code == 0 and set(load_rephrases(out)) == {"Ann Lee", "Bob Ray"}
    assert service.subjects == ["Ann Lee", "Bob Ray", "Bob Ray"]


def test_what_is_known_needs_no_key_and_no_service(rephraser, service, monkeypatch):
    first = rephraser().names("Ann Lee")
    monkeypatch.setattr(Rephraser, "client", property(lambda self: pytest.fail("asked")))
    assert rephraser().names("Ann Lee") == first


def test_the_key_comes_from_the_environment(rephraser, service, monkeypatch, tmp_path):
    monkeypatch.setenv("OPENAI_API_KEY", "a key")
    rephraser().names("Ann Lee")
    assert service.headers[0]["authorization"] == "Bearer a key"
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(EditError, match="OPENAI_API_KEY is unset"):
        Rephraser(tmp_path / "other").names("Ann Lee")


@pytest.mark.parametrize("text", ["{", "[]", '{"model": "small", "prompt": "another", "answers": {}}'])
def test_another_file_is_not_taken_up(rephraser, text):
    path = rephraser()._answers.path
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(EditError, match="cannot take up"):
        rephraser()
    assert path.read_text() == text


def test_without_the_package_it_says_what_to_install(rephraser, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "openai", None)
    with pytest.raises(EditError, match=r"pip install \"easyedit_rep\[openai\]\""):
        rephraser().names("Ann Lee")
