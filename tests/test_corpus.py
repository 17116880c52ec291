"""Plain text from files and lists."""

import pytest

from easyedit_rep.datasets.corpus import load_corpus
from easyedit_rep.errors import EditError


def test_from_a_list_and_from_a_file(tmp_path):
    lines = ["Łódź is a city.", "", "東京 too."]
    path = tmp_path / "wiki.txt"
    path.write_text("\n".join(lines), encoding="utf-8")
    for corpus, name in ((load_corpus(lines), "texts"), (load_corpus(str(path)), "wiki"), (load_corpus(path), "wiki")):
        assert list(corpus.texts) == lines
        assert corpus.name == name


def test_shuffled_gives_every_text_once_by_seed():
    corpus = load_corpus([str(i) for i in range(50)] + [" "])
    first = list(corpus.shuffled(1))
    assert first == list(corpus.shuffled(1)) != list(corpus.shuffled(2))
    assert sorted(first, key=int) == [str(i) for i in range(50)] != first


def test_digest_is_of_the_content():
    assert load_corpus(["a", "b"]).digest == load_corpus(["a", "b"]).digest != load_corpus(["ab"]).digest


@pytest.mark.parametrize(
    ("source", "said"),
    [("no/such.txt", "'no/such.txt' is neither a file nor one of wikitext"), (["", " "], "holds no text"), ([], "holds no text")],
)
def test_nothing_to_read_is_refused(source, said):
    with pytest.raises(EditError, match=said):
        load_corpus(source)


def test_a_file_in_another_encoding_is_refused(tmp_path):
    (tmp_path / "latin.txt").write_bytes("A naïve café.".encode("latin-1"))
    with pytest.raises(EditError, match=r"latin\.txt' is not UTF-8 \(invalid continuation byte at byte 4\): convert it"):
        load_corpus(tmp_path / "latin.txt")
