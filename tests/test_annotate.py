import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import pytest
import spacy
import srsly
from local_model import read_asked, write_config
from metaie import shards
from metaie.annotate import annotate
from metaie.cli import app, separate_settings
from metaie.counts import Summary
from metaie.docbin import read_docbin
from metaie.inputs import Inputs
from metaie.preview import preview
from metaie.pricing import estimate
from metaie.spans import get_answers
from metaie.teacher.pipeline import Teacher
from metaie.teacher.record import hash_prompt
from metaie.teacher.task import make_important_information_task
from spacy.tokens import Doc
from typer.testing import CliRunner

ROOT = Path(__file__).parent.parent
CONFIG = ROOT / "configs" / "teacher.cfg"
SPLITS = ("train", "dev", "test")


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """A folder with texts/ (30 of two genres) and the journal of their answers."""
    texts = [(f"Ada met person {i} in London.", "ab"[i % 2]) for i in range(30)]
    (tmp_path / "texts").mkdir()
    lines = [json.dumps({"text": t, "genre": g, "id": f"p-{i}"}) for i, (t, g) in enumerate(texts)]
    (tmp_path / "texts" / "p.jsonl").write_text("\n".join([*lines, "", lines[0], '{"text": " "}']))
    task = make_important_information_task()
    answer = "- Person: Ada\n- City: London\n- City: Paris\n- Date: none"
    records = [{"prompt_sha256": hash_prompt(task.render(t)), "response": answer} for t, _ in texts]
    (tmp_path / "journal.jsonl").write_text("".join(f"{json.dumps(r)}\n" for r in records))
    return tmp_path


def run(corpus: Path, out: str = "out", texts: str = "texts", **settings: object) -> Summary:
    """Annotate a folder with the shipped config and the corpus's journal."""
    teacher = Teacher(CONFIG, {"paths.journal": str(corpus / "journal.jsonl")})
    return annotate(teacher, Inputs([corpus / texts]), corpus / out, **settings)  # type: ignore[arg-type]


@pytest.fixture
def invoke(corpus: Path) -> Callable[..., tuple[int, str]]:
    """Run the command on the corpus's texts; gives its exit code and all that it printed."""

    def call(*options: object, config: Path = CONFIG, texts: str = "texts") -> tuple[int, str]:
        arguments = ["annotate", corpus / texts, "-o", corpus / "out", "-c", config, *options]
        if config == CONFIG:
            arguments += ["--paths.journal", corpus / "journal.jsonl"]
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        return result.exit_code, " ".join((result.stdout + result.stderr).split())

    return call


def read(path: Path) -> list[Doc]:
    return list(read_docbin(path, spacy.blank("en").vocab))


def read_all(folder: Path) -> dict[str, bytes]:
    """The contents of all files of a folder, by name."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_texts_become_three_docbins(corpus: Path) -> None:
    summary = corpus / "out" / "counts.json"
    done = run(corpus, split="80/10/10", summary=summary)
    docs = {name: read(corpus / "out" / f"{name}.spacy") for name in SPLITS}
    assert {name: len(found) for name, found in docs.items()} == {"train": 24, "dev": 3, "test": 3}
    assert (done.left_out.duplicates, done.left_out.empty) == (1, 1)
    doc = docs["test"][0]
    assert {label: len(spans) for label, spans in get_answers(doc).items()} == {
        "Person": 1,
        "City": 1,
        "Date": 0,
    }
    assert doc.user_data["genre"] in "ab" and doc.user_data["id"].startswith("p-")
    written = json.loads(summary.read_text())
    assert (written["duplicates"], written["empty"], written["tokens"]) == (1, 1, None)
    train = written["splits"]["train"]
    assert train["unplaced"] == {"not_in_text": 24}
    assert (train["passages"], train["queries"], train["spans"], train["lines"]) == (24, 72, 48, 96)
    assert train["absences"] == 24
    table = {row[0].strip(): row[1:] for row in done.rows()}
    assert table["lines not placed"] == ("24", "3", "3", "30")
    assert table["not in text"] == ("24", "3", "3", "30")
    assert table["share of lines"] == ("25.00%",) * 4


def test_two_runs_are_equal_byte_for_byte(corpus: Path) -> None:
    # The order of the inputs' lines does not matter either.
    lines = (corpus / "texts" / "p.jsonl").read_text().split("\n")
    (corpus / "other").mkdir()
    (corpus / "other" / "p.jsonl").write_text("\n".join(reversed(lines)))
    for folder, out in (("texts", "one"), ("other", "two")):
        run(corpus, out, folder)
    assert read_all(corpus / "one") == read_all(corpus / "two")


def test_a_run_that_fails_leaves_what_was_there(corpus: Path) -> None:
    (corpus / "out").mkdir()
    (corpus / "out" / "train.spacy").write_bytes(b"old")
    with (corpus / "texts" / "p.jsonl").open("a") as file:
        file.write('\n{"text": "not in the journal"}\n')
    with pytest.raises(ValueError, match="No answer is recorded"):
        run(corpus)
    assert read_all(corpus / "out") == {"train.spacy": b"old"}


@pytest.mark.filterwarnings("ignore:Task supports sharding")
def test_labels_left_unknown_are_counted(corpus: Path) -> None:
    config = write_config(corpus)
    # The local model's answers have no END, so that a label without a line is not known.
    task = '"metaie.QueriedLabels.v1"\nlabels = ["Person", "Price", "Date"]'
    config.write_text(config.read_text().replace('"metaie.ImportantInformation.v1"', task))
    for size in (0, 4):
        done = annotate(
            Teacher(config), Inputs([corpus / "texts"]), corpus / f"out{size}", shard_size=size
        )
        table = {row[0].strip(): row[1:] for row in done.rows()}
        assert table["labels left unknown"][-1] == "30"
        assert table["queries"][-1] == "60"


def test_a_bad_row_stops_a_run_before_it_asks(corpus: Path) -> None:
    with (corpus / "texts" / "p.jsonl").open("a") as file:
        file.write("\nnonsense\n")
    teacher = Teacher(write_config(corpus))
    for size in (0, 4):
        with pytest.raises(ValueError, match=r"p\.jsonl, line 34"):
            annotate(teacher, Inputs([corpus / "texts"]), corpus / "out", shard_size=size)
    assert not read_asked(corpus)
    assert not (corpus / "out").exists()


def test_failed_passages_are_counted_and_left_out(corpus: Path) -> None:
    with (corpus / "texts" / "p.jsonl").open("a") as file:
        file.write('\n{"text": "FAIL"}\n{"text": "CUT Ada"}\n')
    for size in (0, 10):
        teacher = Teacher(write_config(corpus, journal=False))
        done = annotate(
            teacher,
            Inputs([corpus / "texts"]),
            corpus / f"out{size}",
            shard_size=size,
            split="1/0/0",
        )
        texts = {doc.text for doc in read(corpus / f"out{size}")}
        assert len(texts) == 31
        assert "CUT Ada" in texts and "FAIL" not in texts
        assert done.failed == 1
        assert done.splits["train"].outcomes == {"cut_off": 1}
        assert (done.tokens, done.cost) == (32 * 110, 16.0)
        table = {row[0].strip(): row[-1] for row in done.rows()}
        assert (table["cut off"], table["passages that failed"]) == ("1", "1")


def test_shards_hold_the_same_docs(corpus: Path) -> None:
    whole, sharded = run(corpus, "whole", split="2/1/1"), run(corpus, shard_size=4, split="2/1/1")
    texts = {doc.text: doc.to_bytes() for doc in read(corpus / "whole")}
    assert {doc.text: doc.to_bytes() for doc in read(corpus / "out")} == texts
    assert sum(c.spans for c in whole.splits.values()) == sum(
        c.spans for c in sharded.splits.values()
    )
    assert sharded.left_out == whole.left_out
    manifest = srsly.read_json(corpus / "out" / "manifest.json")
    assert manifest["complete"] is True
    assert manifest["left_out"] == {"duplicates": 1, "near_duplicates": 0, "empty": 1}
    assert manifest["settings"]["split"] == "2/1/1"
    assert set(manifest["settings"]["versions"]) == {"metaie", "spacy", "spacy-llm"}
    for shard in manifest["shards"]:
        docs = read(corpus / "out" / shard["file"])
        assert 0 < len(docs) <= 4
        assert shard["docs"] == len(docs)
        assert shard["spans"] == sum(len(doc.spans["metaie"]) for doc in docs)
    files = {shard["file"] for shard in manifest["shards"]}
    assert files | {"manifest.json"} == set(read_all(corpus / "out"))
    assert {Path(file).parent.name for file in files} == set(SPLITS)


def test_what_is_finished_is_not_made_again(corpus: Path) -> None:
    summaries = []

    def go() -> tuple[int, dict[str, int]]:
        """How many were asked, and when each file was written."""
        before = len(read_asked(corpus))
        # Without a journal, so that each passage that is annotated again is asked again.
        teacher = Teacher(write_config(corpus, journal=False))
        inputs = Inputs([corpus / "texts"])
        done = annotate(teacher, inputs, corpus / "out", shard_size=4, split="1/0/0")
        summaries.append(done.as_dict()["splits"])
        times = {p.name: p.stat().st_mtime_ns for p in (corpus / "out/train").iterdir()}
        return len(read_asked(corpus)) - before, times

    asked, times = go()
    assert asked == 30 and len(times) == 8
    assert go() == (0, times)
    assert summaries[1] == summaries[0]
    assert summaries[0]["train"]["unplaced"] == {"not_in_text": 30}
    # A damaged shard, and one that is gone.
    (corpus / "out/train/00001.spacy").write_bytes(b"damaged")
    (corpus / "out/train/00002.spacy").unlink()
    asked, again = go()
    assert asked == 8
    assert {name for name in times if times[name] != again[name]} == {"00001.spacy", "00002.spacy"}
    # A text that brings other queries than before.
    path = corpus / "texts" / "p.jsonl"
    path.write_text(
        path.read_text().replace('"id": "p-0"', '"id": "p-0", "queries": ["Person"]', 1)
    )
    asked, asking = go()
    assert asked == 4
    assert sum(again[name] != asking[name] for name in again) == 1
    again = asking
    # More texts: the last shard, which was not full, is another now.
    with (corpus / "texts" / "p.jsonl").open("a") as file:
        file.write('\n{"text": "Ada."}\n{"text": "Bob."}\n{"text": "Eve."}\n')
    asked, more = go()
    assert asked == 5 and len(more) == 9
    assert {name for name in again if again[name] != more[name]} == {"00007.spacy"}
    # Fewer texts: what is not of this corpus goes.
    (corpus / "texts" / "p.jsonl").write_text('{"text": "Ada."}\n')
    assert go()[0] == 1
    assert set(read_all(corpus / "out")) == {"manifest.json", "train/00000.spacy"}


def test_failed_passages_are_asked_again(corpus: Path) -> None:
    (corpus / "texts" / "p.jsonl").write_text('{"text": "FAIL"}\n{"text": "Ada"}\n')
    for _ in range(2):
        teacher = Teacher(write_config(corpus, journal=False))
        annotate(teacher, Inputs([corpus / "texts"]), corpus / "out", shard_size=1, split="1/0/0")
    assert read_asked(corpus).count("FAIL") == 2
    assert read_asked(corpus).count("Ada") == 1


def test_a_stopped_run_goes_on(corpus: Path, invoke: Callable[..., tuple[int, str]]) -> None:
    options = ("--shard-size", 4, "--split", "1/0/0")
    code, shown = invoke(*options, config=write_config(corpus, stop_at=12))
    assert code == 1
    assert "The budget is reached." in shown
    # How many were handed on when the twelfth stopped it depends on how the journal reads ahead.
    assert re.search(r"([89]|1[01]) of 30 texts were done\. The answers are in", shown)
    manifest = srsly.read_json(corpus / "out" / "manifest.json")
    assert manifest["complete"] is False
    assert [shard["file"] for shard in manifest["shards"]] == [
        "train/00000.spacy",
        "train/00001.spacy",
    ]
    code, shown = invoke(*options, config=write_config(corpus))
    assert code == 0, shown
    assert sorted(read_asked(corpus)) == sorted(set(read_asked(corpus)))
    assert len(read_asked(corpus)) == 30
    stopped = read_all(corpus / "out")
    (corpus / "out").rename(corpus / "resumed")
    assert invoke(*options, config=write_config(corpus))[0] == 0
    undisturbed = read_all(corpus / "out")
    assert undisturbed.keys() == stopped.keys()
    assert all(undisturbed[name] == stopped[name] for name in stopped)


def test_an_interrupt_ends_cleanly(corpus: Path, invoke: Callable[..., tuple[int, str]]) -> None:
    with (corpus / "texts" / "p.jsonl").open("a") as file:
        file.write('\n{"text": "CTRL-C"}\n')
    code, shown = invoke(config=write_config(corpus))
    assert code == 1
    assert "`annotate` was interrupted" in shown
    assert "of 31 texts were done. The answers are in" in shown
    assert "Traceback" not in shown
    assert not (corpus / "out").exists()
    code, shown = invoke(config=write_config(corpus, journal=False))
    assert "There is no journal" in shown


@pytest.mark.slow
def test_control_c_at_any_moment_loses_nothing(corpus: Path) -> None:
    # What runs in the background of a shell is started with the signal ignored.
    code = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler);"
        "import local_model; from metaie.cli import app; app(prog_name='metaie')"
    )
    config = write_config(corpus, delay=0.05)
    command = [sys.executable, "-c", code, "annotate", "texts", "-c", str(config), "-o", "out"]
    command += ["--shard-size", "4", "--split", "1/0/0"]
    env = {**os.environ, "PYTHONPATH": str(ROOT / "tests")}
    for stop_after in (3, random.randint(4, 15), None):
        with subprocess.Popen(command, cwd=corpus, env=env, stderr=subprocess.PIPE) as run:
            goal = None if stop_after is None else len(read_asked(corpus)) + stop_after
            while goal and len(read_asked(corpus)) < goal and run.poll() is None:
                time.sleep(0.01)
            if goal:
                run.send_signal(signal.SIGINT)
            assert run.stderr
            shown = run.stderr.read().decode()
        assert "Traceback" not in shown
        assert run.returncode == (1 if goal else 0), shown
        assert not goal or "was interrupted" in shown
    # The one that was under way when it stopped may be asked again.
    assert set(read_asked(corpus)) == {f"Ada met person {i} in London." for i in range(30)}
    assert len(read_asked(corpus)) <= 32
    records = list(srsly.read_jsonl(corpus / "answers.jsonl"))
    assert len(records) == len({record["prompt_sha256"] for record in records})
    assert len(read(corpus / "out")) == 30


def test_shards_left_over_go_before_the_corpus_is_complete(
    corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(corpus, shard_size=4, split="2/1/1")
    assert {p.name for p in (corpus / "out").iterdir()} == {*SPLITS, "manifest.json"}
    write = shards.write_manifest

    def die_when_complete(
        folder: Path, settings: Any, made: Any, complete: bool, *rest: Any
    ) -> None:
        if complete:
            raise OSError("the machine is gone")
        write(folder, settings, made, complete, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(shards, "write_manifest", die_when_complete)
        with pytest.raises(OSError, match="machine is gone"):
            run(corpus, shard_size=4, split="1/0/0")
    # Whatever is there is listed, so that the next run knows of it.
    manifest = srsly.read_json(corpus / "out" / "manifest.json")
    listed = {shard["file"] for shard in manifest["shards"]}
    assert manifest["complete"] is False
    assert set(read_all(corpus / "out")) <= {*listed, "manifest.json"}
    run(corpus, shard_size=4, split="1/0/0")
    assert {p.name for p in (corpus / "out").iterdir()} == {"train", "manifest.json"}
    manifest = srsly.read_json(corpus / "out" / "manifest.json")
    assert manifest["complete"] is True
    assert {shard["file"] for shard in manifest["shards"]} == set(read_all(corpus / "out")) - {
        "manifest.json"
    }


def test_a_split_that_has_become_empty_is_not_reported(
    corpus: Path, invoke: Callable[..., tuple[int, str]]
) -> None:
    for split in ("2/1/1", "1/0/0"):
        code, shown = invoke(
            "--shard-size", 4, "--split", split, "--report", corpus / "report.html"
        )
        assert code == 0, shown


def test_a_folder_holds_one_kind_of_docbins(corpus: Path) -> None:
    for first, second in ((0, 4), (4, 0)):
        out = f"out{first}"
        run(corpus, out, shard_size=first)
        made = read_all(corpus / out)
        with pytest.raises(ValueError, match="texts would count twice") as caught:
            run(corpus, out, shard_size=second)
        assert str(corpus / out / "train") in str(caught.value)
        assert read_all(corpus / out) == made
        run(corpus, out, shard_size=first)


def test_ray_writes_no_shards_beside_whole_docbins(
    corpus: Path, invoke: Callable[..., tuple[int, str]]
) -> None:
    run(corpus)
    made = read_all(corpus / "out")
    code, shown = invoke("--ray", "local")
    assert code == 1
    assert "texts would count twice" in shown
    assert read_all(corpus / "out") == made


def test_a_manifest_of_others_is_left_alone(corpus: Path) -> None:
    (corpus / "out").mkdir()
    for data in (b'{"name": "another app"}', b"[]", b"nonsense", b'{"shards": [{"file": "../x"}]}'):
        (corpus / "out" / "manifest.json").write_bytes(data)
        with pytest.raises(ValueError, match="not the manifest of a corpus"):
            run(corpus, shard_size=4)
        assert read_all(corpus / "out") == {"manifest.json": data}


def test_a_manifest_deletes_nothing_but_shards(corpus: Path) -> None:
    run(corpus, shard_size=4)
    path = corpus / "out" / "manifest.json"
    manifest = srsly.read_json(path)
    manifest["shards"][0]["file"] = "../texts/p.jsonl"
    srsly.write_json(path, manifest)
    with pytest.raises(ValueError, match="a shard can't be called"):
        run(corpus, shard_size=4)
    assert (corpus / "texts" / "p.jsonl").exists()


def test_the_command(corpus: Path, invoke: Callable[..., tuple[int, str]]) -> None:
    code, shown = invoke()
    assert code == 0, shown
    assert "not in text" in shown
    assert "1 texts that were there before, 1 texts without any words" in shown
    assert len(read(corpus / "out")) == 30
    code, shown = invoke("--paths.journal", corpus / "missing.jsonl")
    assert code == 0  # the last one counts
    code, shown = invoke("--components.llm.model.path", corpus / "missing.jsonl")
    assert code == 1
    assert "missing.jsonl" in shown.replace(" ", "")


def test_settings_and_texts_may_be_mixed(corpus: Path) -> None:
    (corpus / "more.txt").write_text("Ada met person 1 in London.\n")
    journal = f"--paths.journal={corpus / 'journal.jsonl'}"
    arguments = ["annotate", journal, corpus / "more.txt", "-c", CONFIG, "-o", corpus / "out"]
    for seed in ([], ["--nlp.batch_size", "7"]):
        command = [*arguments, *seed, corpus / "texts"]
        result = CliRunner().invoke(app, [str(argument) for argument in command])
        assert result.exit_code == 0, result.output
        assert len(read(corpus / "out")) == 30
    result = CliRunner().invoke(app, [str(a) for a in [*arguments, "--no-such-option", "1"]])
    assert result.exit_code == 2
    assert "no-such-option" in result.output


def test_a_setting_without_a_value_takes_no_option_for_one() -> None:
    arguments = [
        "a.txt",
        "--components.x.flag",
        "--paths.journal",
        "-5",
        "b.txt",
        "--x.y=z",
        "--u.v",
    ]
    assert separate_settings(arguments) == (
        ["a.txt", "b.txt"],
        ["--components.x.flag", "--paths.journal", "-5", "--x.y=z", "--u.v"],
    )


def test_a_page_about_the_corpus(corpus: Path, invoke: Callable[..., tuple[int, str]]) -> None:
    for options in ((), ("--shard-size", 7)):
        shutil.rmtree(corpus / "out", ignore_errors=True)
        page = corpus / "report.html"
        code, shown = invoke("--report", page, *options)
        assert code == 0, shown
        assert "Wrote" in shown and "report.html" in shown.replace(" ", "")
        assert page.read_text(encoding="utf-8").count("<svg") == 8
        page.unlink()


@pytest.mark.parametrize("shard_size", [0, 3])
def test_no_texts(tmp_path: Path, shard_size: int) -> None:
    (tmp_path / "a.txt").touch()
    with pytest.raises(ValueError, match="no texts"):
        annotate(
            Teacher(CONFIG), Inputs([tmp_path / "a.txt"]), tmp_path / "out", shard_size=shard_size
        )


@pytest.mark.parametrize(
    ("group", "name"),
    [
        ("llm_tasks", "metaie.ImportantInformation.v1"),
        ("llm_models", "metaie.Chat.v1"),
        ("llm_models", "metaie.Journal.v1"),
    ],
)
def test_spacy_llm_finds_the_teacher_without_an_import(group: str, name: str) -> None:
    from spacy_llm.registry import registry

    # The name of the group is spacy-llm's affair, and not what one would think.
    points = entry_points(group=getattr(registry, group).entry_point_namespace)
    assert name in {point.name for point in points}


def test_texts_are_asked_the_queries_that_they_bring(tmp_path: Path) -> None:
    """As `select` writes them: passages and labels to send to the teacher."""
    rows = [{"text": "Ada left London.", "queries": ["City", "Price"]}, {"text": "Bob left Lima."}]
    (tmp_path / "chosen.jsonl").write_text("\n".join(map(json.dumps, rows)))
    config = write_config(tmp_path)
    task = '"metaie.QueriedLabels.v1"\nlabels = ["Person"]'
    config.write_text(config.read_text().replace('"metaie.ImportantInformation.v1"', task))
    teacher, inputs = Teacher(config), Inputs([tmp_path / "chosen.jsonl"])
    assert estimate(teacher, inputs).prompts == 2
    first, second = preview(teacher, inputs, 2, color=False)
    assert {("City" in shown, "Person" in shown) for shown in (first, second)} == {
        (True, False),
        (False, True),
    }
    assert estimate(teacher, inputs).recorded == 2
    for size in (0, 5):
        done = annotate(teacher, inputs, tmp_path / f"out{size}", split="1/0/0", shard_size=size)
        docs = {doc.text: get_answers(doc) for doc in read(tmp_path / f"out{size}")}
        assert list(docs["Ada left London."]) == ["City"]
        assert [span.text for span in docs["Ada left London."]["City"]] == ["London"]
        assert not docs["Bob left Lima."]  # the answer knows Ada only
        assert done.splits["train"].unknown == 2
    assert len(read_asked(tmp_path)) == 2
