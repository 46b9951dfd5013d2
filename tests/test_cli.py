import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from metaie.cli import app
from typer.testing import CliRunner

COMMANDS = ["convert", "draft", "extract", "select", "graph", "demo", "annotate", "report"]


@pytest.fixture
def invoke() -> Callable[..., tuple[int, str, str]]:
    """Run a command; gives its exit code, stdout and stderr."""

    def run(*args: object, stdin: str = "", **env: str) -> tuple[int, str, str]:
        result = CliRunner().invoke(app, [str(arg) for arg in args], input=stdin, env=env)
        return result.exit_code, result.stdout, result.stderr

    return run


def test_help_does_not_wait_for_torch() -> None:
    code = (
        "import sys; from metaie.cli import app; app(['--help'], standalone_mode=False);"
        "assert not {'torch', 'spacy', 'transformers'} & set(sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert all(command in result.stdout for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_explains_itself(
    invoke: Callable[..., tuple[int, str, str]], command: str
) -> None:
    code, out, err = invoke(command)
    assert "Usage" in out + err
    assert code in (0, 2)
    assert invoke(command, "--help")[0] == 0


def test_convert_reports_what_it_did(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    source, target, back = (tmp_path / name for name in ("a.jsonl", "a.spacy", "b.jsonl"))
    source.write_text(
        '{"tokens": ["Ada", "left"], "spans": [{"start": 0, "end": 1, "label": "Person"}]}\noops\n'
    )
    labels = tmp_path / "labels.txt"
    labels.write_text("City\n")
    options = ["--label", "Person", "--labels", labels]
    code, out, _ = invoke("convert", source, target, "--skip-bad", *options)
    assert code == 0
    assert "1 docs, 1 spans, 2 labels" in " ".join(out.split())
    assert "1 bad rows" in out
    assert "not JSON" in out
    assert invoke("convert", target, back, "--tokens")[0] == 0
    assert json.loads(back.read_text()) == {
        "tokens": ["Ada", "left"],
        "spans": [{"start": 0, "end": 1, "label": "Person"}],
        "queries": ["Person", "City"],
    }


def test_expected_errors_are_one_paragraph_on_stderr(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    source = tmp_path / "a.jsonl"
    source.write_text("oops\n")
    code, out, err = invoke("convert", source, tmp_path / "a.spacy")
    assert (code, out) == (1, "")
    assert "`convert` could not finish" in err
    assert "line 1: this is not JSON" in " ".join(err.split())
    assert "Traceback" not in err
    code, out, err = invoke("extract", "en_nope", source)
    assert (code, out) == (1, "")
    assert "en_nope" in err


def test_verbose_shows_the_traceback(tmp_path: Path) -> None:
    for args, env in [(["--verbose"], {}), ([], {"METAIE_VERBOSE": "1"})]:
        result = CliRunner().invoke(app, [*args, "convert", "nope.jsonl", "a.spacy"], env=env)
        assert isinstance(result.exception, FileNotFoundError)


def test_bugs_are_not_dressed_up(
    invoke: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_down(*args: object, **kwargs: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("metaie.convert.convert", break_down)
    result = CliRunner().invoke(app, ["convert", "a.jsonl", "a.spacy"])
    assert isinstance(result.exception, ZeroDivisionError)


def test_extract_and_demo(
    invoke: Callable[..., tuple[int, str, str]], tiny_model_dir: Path, tmp_path: Path
) -> None:
    options = ["--label", "Person", "--label", "Reason for the delay", "--threshold", "0.1"]
    code, out, _ = invoke("extract", tiny_model_dir, "-", *options, stdin="Ada met Bob.\n")
    assert code == 0
    row = json.loads(out)
    assert row["text"] == "Ada met Bob."
    assert {span["label"] for span in row["spans"]} == {"Person", "Reason for the delay"}
    html = tmp_path / "a.html"
    code, out, _ = invoke("demo", tiny_model_dir, "Ada met Bob.", "--output", html)
    assert code == 0
    # Long lines are wrapped and indented.
    assert f"Wrote{html}" in "".join(out.split())
    assert html.exists()


def test_a_reader_that_leaves_early_is_no_error() -> None:
    code = """
from metaie.cli import app

@app.command()
def chatter():
    while True:
        print("Ada met Bob.", flush=True)

app(["chatter"])
"""
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        assert process.stdout.readline() == b"Ada met Bob.\n"
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait(timeout=60) == 0


def test_a_pipe_that_breaks_elsewhere_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def break_pipe(*args: object, **kwargs: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    monkeypatch.setattr("metaie.convert.convert", break_pipe)
    monkeypatch.setattr("metaie.cli.reader_has_left", lambda: False)
    result = CliRunner().invoke(app, ["convert", "a.jsonl", "a.spacy"])
    assert result.exit_code == 1
    assert "Broken pipe" in result.stderr


RELATION = {
    "tokens": ["Ada", "works", "for", "IBM"],
    "spans": [
        {"start": 0, "end": 1, "label": "person"},
        {"start": 3, "end": 4, "label": "company"},
        {"start": 1, "end": 2, "label": "verb"},
    ],
    "relations": [{"head": 0, "tail": 1, "label": "works for"}],
}


def test_a_schema_is_drafted_and_used(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path, eager_model_dir: Path
) -> None:
    source, schema, target = (tmp_path / name for name in ("a.jsonl", "schema.json", "b.jsonl"))
    source.write_text(json.dumps(RELATION) + "\n")
    code, out, err = invoke("draft", source, schema, "--family", "relations", "--min-count", "1")
    assert code == 0, err
    drafted = json.loads(schema.read_text())
    assert drafted["relations"] == [{"label": "works for", "head": ["person"], "tail": ["company"]}]
    schema.write_text(json.dumps({**drafted, "entities": ["person", "company"]}))
    code, out, err = invoke("convert", source, target, "--schema", schema)
    assert code == 0, err
    assert "does not name" in out
    assert "verb" in out
    row = json.loads(target.read_text())
    assert row["queries"] == ["person", "company"]
    assert row["second_queries"] == ["Ada works for"]
    assert row["relations"] == RELATION["relations"]
    texts = tmp_path / "texts.txt"
    texts.write_text("Ada works for IBM\n")
    options = ["--schema", schema]
    code, out, err = invoke("extract", eager_model_dir, texts, *options)
    assert code == 0, err
    record = json.loads(out)
    assert {span["label"] for span in record["spans"]} <= {"person", "company"}
    assert {relation["label"] for relation in record["relations"]} <= {"works for"}
    docs = tmp_path / "a.spacy"
    assert invoke("convert", source, docs, "--schema", schema)[0] == 0
    code, out, err = invoke("evaluate", eager_model_dir, docs, *options)
    assert code == 0, err
    assert "relations" in out
    code, out, err = invoke("evaluate", eager_model_dir, docs, *options, "--sweep")
    assert code == 1
    assert "one `--threshold` at a time" in " ".join(err.split())
    code, out, err = invoke("extract", eager_model_dir, texts, "--label", "x", *options)
    assert code == 1
    assert "labels or a schema, not both" in " ".join(err.split())


def test_a_graph_is_written(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path, eager_model_dir: Path
) -> None:
    schema, texts = tmp_path / "schema.json", tmp_path / "texts.txt"
    schema.write_text(
        json.dumps(
            {
                "family": "relations",
                "entities": ["person"],
                "relations": ["knows: person -> person"],
            }
        )
    )
    texts.write_text("Ada works for IBM and Bob for Siemens\n")
    options = ["--schema", schema, "--output", tmp_path / "graph"]
    code, out, err = invoke("graph", eager_model_dir, texts, *options)
    assert code == 0, err
    assert "graph.graphml, graph.ttl and graph.svg" in " ".join(out.split())
    assert {path.name for path in (tmp_path / "graph").iterdir()} == {
        *("graph.graphml", "graph.ttl", "graph.svg")
    }


def test_ray_is_asked_for_what_it_can_do(
    invoke: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    source = tmp_path / "a.txt"
    source.write_text("a\n")
    code, _, err = invoke("extract", "en_nope", source, "--ray", "local")
    assert code == 1
    assert "give a folder for the answers" in err
    options = ["--ray", "local", "--output", tmp_path / "out", "--whole-files"]
    code, _, err = invoke("extract", "en_nope", source, *options)
    assert code == 1
    assert "leave out --n-process" in " ".join(err.split())
    assert not (tmp_path / "out").exists()


def test_ray_is_not_needed_until_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "ray.py").write_text("raise ImportError('blocked', name='ray')")
    (tmp_path / "a.txt").write_text("a\n")
    command = [sys.executable, "-m", "metaie", "extract", "en_nope", tmp_path / "a.txt"]
    for options, message in [
        ([], "Can't load the pipeline"),
        (["--ray", "local", "--output", tmp_path / "out"], 'pip install "metaie[ray]"'),
    ]:
        result = subprocess.run(
            [*command, *options],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
        )
        assert result.returncode == 1
        assert message in " ".join(result.stderr.split())
