"""Packages a trained pipeline: half-size weights, a model card, a wheel; and proves it."""

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import srsly
from spacy.cli.package import package as spacy_package
from spacy.language import Language
from wasabi import msg

from . import __version__
from .loading import get_metaie, load_pipeline
from .spans import get_scores, set_queries
from .tagger.shim import get_shim

DESCRIPTION = (
    "Marks the spans of a text that answer any queried label: distilled from the answers of a "
    "large language model about the important information of 8,738 varied passages."
)
SOURCES = [
    {
        "name": "all-MiniLM-L6-v2",
        "author": "Nils Reimers and others",
        "url": "https://huggingface.co/sentence-transformers/all-MiniLM-L6-v2",
        "license": "Apache-2.0",
    },
    {
        "name": "metaie corpus",
        "author": "metaie contributors; texts and answers by a large language model",
        "license": "MIT",
    },
]

# Asked of the pipeline before packaging and of the installed package.
CHECKS: list[tuple[str, list[str]]] = [
    (
        "Storms over the Atlantic delayed the flight of Maria Lopez from Lisbon by nine hours.",
        ["Person", "City", "Reason for the delay", "Price"],
    ),
    (
        "The screen is superb, but the battery of this laptop barely lasts two hours.",
        ["positive aspect", "negative aspect", "product"],
    ),
    (
        "Two patients developed a rash after the first dose of ibuprofen.",
        ["drug", "adverse effect of ibuprofen", "City"],
    ),
]

# Runs inside the fresh environment, which knows nothing of the source tree.
SCRIPT = """
import json, sys, spacy
nlp = spacy.load(sys.argv[1])
answers = []
for text, labels in json.load(sys.stdin):
    doc = nlp.make_doc(text)
    doc._.queries = labels
    group = nlp(doc).spans["metaie"]
    spans = [[s.label_, s.start_char, s.end_char] for s in group]
    answers.append([[*span, float(score)] for span, score in zip(spans, group.attrs["scores"])])
import metaie
print(json.dumps({"answers": answers, "module": metaie.__file__, "version": nlp.meta["version"]}))
"""

PIP_WHEEL = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")

Answers = list[list[list[Any]]]


def package(
    model: Path,
    output: Path,
    *,
    metrics: Path | None = None,
    name: str = "metaie",
    version: str = __version__,
) -> Path:
    """Package a trained pipeline as a wheel, with a model card.

    model: the pipeline's directory, such as training/distill/model-best.
    output: where the wheel goes.
    metrics: what `python -m metaie evaluate --output` wrote, for the card.

    Returns the wheel's path.
    """
    nlp = load_pipeline(str(model))
    scores = srsly.read_json(metrics) if metrics else {}
    card = make_card(nlp, scores, name, version)
    get_shim(get_metaie(nlp).model).storage = "float16"
    nlp.meta.update(make_meta(nlp, scores, name, version))
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "model"
        nlp.to_disk(source)
        (source / "README.md").write_text(card, encoding="utf8")
        spacy_package(
            source, Path(folder), name=name, version=version, create_sdist=False, silent=False
        )
        # Not with spaCy's own `build`, which downloads setuptools for every wheel.
        built = Path(folder) / f"{nlp.lang}_{name}-{version}"
        run([sys.executable, *PIP_WHEEL, "--wheel-dir", folder, str(built)], folder)
        (wheel,) = Path(folder).glob("*.whl")
        return Path(shutil.copy(wheel, output / wheel.name))


def make_meta(nlp: Language, scores: dict[str, Any], name: str, version: str) -> dict[str, Any]:
    """What meta.json says of the pipeline."""
    performance = {
        f"spans_{get_metaie(nlp).key}_{figure}": scores[figure]
        for figure in ("f", "p", "r", "macro_f", "false_answers")
        if figure in scores
    }
    return {
        "name": name,
        "version": version,
        "description": DESCRIPTION,
        "author": "metaie contributors",
        "license": "MIT",
        "sources": SOURCES,
        "requirements": [f"metaie>={__version__}"],
        "performance": performance or nlp.meta.get("performance", {}),
    }


def make_card(nlp: Language, scores: dict[str, Any], name: str, version: str) -> str:
    """The model card, in Markdown."""
    package_name = f"{nlp.lang}_{name}"
    threshold = get_metaie(nlp).threshold
    rows = [
        ("F1, micro, exact spans", "f"),
        ("Precision", "p"),
        ("Recall", "r"),
        ("F1, mean of labels", "macro_f"),
        ("Known absences answered all the same", "false_answers"),
    ]
    table = "\n".join(
        f"| {title} | {100 * scores[figure]:.1f} |" for title, figure in rows if figure in scores
    )
    figures = (
        f"On {scores['docs']:,} held-out passages with {scores['queries']:,} queries, "
        f"{scores['absences']:,} of them without an answer, at threshold {threshold:g}:\n\n"
        f"| Figure | % |\n| --- | ---: |\n{table}\n"
        if scores
        else "It was not evaluated when it was packaged.\n"
    )
    return f"""# {package_name} {version}

{DESCRIPTION}

It is a spaCy pipeline with one component, `metaie`, after MetaIE (Peng et al., 2024,
arXiv 2404.00457). A label is any phrase: an entity type, a role, a relation to something that
the text names.

## Use

```python
import spacy

nlp = spacy.load("{package_name}")
doc = nlp.make_doc("Storms over the Atlantic delayed the flight from Lisbon by nine hours.")
doc._.queries = ["City", "Reason for the delay", "Price"]
doc = nlp(doc)
group = doc.spans["metaie"]
for span, score in zip(group, group.attrs["scores"]):
    print(span.label_, span.text, round(float(score), 2))
```

Texts that bring no queries are asked `nlp.get_pipe("metaie").labels`. A span is kept if its score
reaches `nlp.get_pipe("metaie").threshold`; both can be set at any time. Spans of different labels
may overlap. Texts of any length are read whole.

## Figures

{figures}
## Training

| | |
| --- | --- |
| Base | all-MiniLM-L6-v2, 22.7M parameters, Apache-2.0 |
| Corpus | the metaie corpus: passages of 239 genres and answers, both written by a large language \
model, MIT |
| Method | label and text as a pair; each token is tagged B, I or O |
| Weights | float16 on disk, float32 in memory |
| Licence | MIT |

## Limits

- English. The base is uncased: it does not see capitals.
- Texts and answers were written by a language model: what it got wrong or left out was learnt too.
- Answers are verbatim spans without overlaps under one label; nothing is inferred beyond them.
- A label without an answer is still answered at times; see the figure above. Raise the threshold
  where that costs more than a missed answer, and adapt to a task with a few annotated texts.
- Each label costs one pass over the text.
"""


def predict_checks(nlp: Language, checks: Sequence[tuple[str, list[str]]] = CHECKS) -> Answers:
    """The answers to the checks, as [label, start, end, score], offsets in characters."""
    key = get_metaie(nlp).key
    answers: Answers = []
    for text, labels in checks:
        doc = nlp.make_doc(text)
        set_queries(doc, labels, key)
        doc = nlp(doc)
        scores = get_scores(doc, key)
        assert scores is not None
        answers.append(
            [
                [span.label_, span.start_char, span.end_char, float(score)]
                for span, score in zip(doc.spans[key], scores, strict=True)
            ]
        )
    return answers


def verify(
    model: Path, wheels: Path, *, constraints: Path | None = None, name: str = "en_metaie"
) -> list[tuple[str, str, bool]]:
    """Install the wheels into a fresh virtual environment and compare their answers.

    model: the pipeline before packaging.
    wheels: a folder with the wheels of the pipeline and of metaie.
    constraints: exact versions for what they need, for pip's `--constraint`.

    Returns (passage, answers, whether they are equal) of each check. Raises ValueError if
    the wheels are missing, cannot be installed, or if the environment sees the source tree.
    """
    found = [*wheels.glob(f"{name}-*.whl"), *wheels.glob("metaie-*.whl")]
    if len(found) != 2:
        raise ValueError(
            f"{str(wheels)!r} must hold one wheel of {name} and one of metaie, but has "
            f"{[path.name for path in found] or 'none'}. `weasel run package` makes them."
        )
    nlp = load_pipeline(str(model))
    tagger = get_metaie(nlp).model
    get_shim(tagger).storage = "float16"
    tagger.from_bytes(tagger.to_bytes())  # rounds the weights, as packaging does
    expected = predict_checks(nlp)
    with tempfile.TemporaryDirectory() as folder:
        python = Path(folder) / "venv" / "bin" / "python"
        msg.info("Making a fresh virtual environment and installing the wheels: a minute or two")
        run([sys.executable, "-m", "venv", str(Path(folder) / "venv")], folder)
        pip = [str(python), "-I", "-m", "pip", "install", "--quiet", "--no-compile"]
        if constraints:
            pip += ["--constraint", str(constraints.resolve())]
        run([*pip, *(str(path.resolve()) for path in found)], folder)
        output = run([str(python), "-I", "-c", SCRIPT, name], folder, json.dumps(CHECKS))
        result = json.loads(output.splitlines()[-1])
        if not Path(result["module"]).is_relative_to(Path(folder).resolve()):
            raise ValueError(f"metaie was imported from outside: {result['module']}")
    return [
        (text, "; ".join(f"{a[0]}: {text[a[1] : a[2]]}" for a in got) or "none", equal(want, got))
        for (text, _), want, got in zip(CHECKS, expected, result["answers"], strict=True)
    ]


def equal(want: list[list[Any]], got: list[list[Any]]) -> bool:
    """Whether the spans are the same, and their scores up to 0.001."""
    return [a[:3] for a in want] == [a[:3] for a in got] and all(
        abs(a[3] - b[3]) <= 0.001 for a, b in zip(want, got, strict=True)
    )


def run(command: Sequence[str], folder: str, stdin: str = "") -> str:
    """Run a command in a folder. Raises ValueError with the end of its output if it fails."""
    result = subprocess.run(command, cwd=folder, input=stdin, capture_output=True, text=True)
    if result.returncode:
        shown = " ".join(part for part in command if "\n" not in part)
        raise ValueError(f"`{shown}` failed:\n{(result.stderr or result.stdout)[-2000:]}")
    return result.stdout
