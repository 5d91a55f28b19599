"""A machine of its own for each test: an empty cache, a PATH to fill, no mirror, and files served over HTTP."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder, and downloads turned off until a test wants them."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("KAITO_CACHE_DIR", str(folder))
    monkeypatch.setenv("KAITO_BINARIES_MIRROR", "off")
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return folder


class FakeGo:
    """A `go` on PATH that answers `go env GOVERSION`, and builds what its script says.

    Attributes:
        runs: A file with one line per `go build`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runs = folder / "runs"

    def install(
        self, *, version: str = "go1.26.8", build: str = 'echo "#!/bin/sh" > "$output"; chmod +x "$output"'
    ) -> None:
        """Puts it on PATH; the build script finds the path that it has to make in `$output`."""
        script = f"""#!/bin/sh
        if [ "$1" = env ]; then echo {version}; exit; fi
        echo "$PWD" >> {self.runs}
        while [ "$1" != -o ]; do shift; done
        output=$2
        {build}
        """
        go = self.folder / "go"
        go.write_text(script)
        go.chmod(0o755)

    def count(self) -> int:
        """How many builds there were."""
        return len(self.runs.read_text().splitlines()) if self.runs.exists() else 0


@pytest.fixture
def fake_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeGo:
    """A folder first on PATH in which a test installs its `go`; no other `go` is to be found."""
    folder = tmp_path / "bin"
    folder.mkdir()
    without_go = [each for each in os.environ["PATH"].split(":") if not (Path(each) / "go").exists()]
    monkeypatch.setenv("PATH", ":".join([str(folder), *without_go]))
    return FakeGo(folder)


class Mirror:
    """An HTTP server with the layout of a mirror; what it serves can be broken file by file."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.truncated: set[str] = set()
        self.requests: list[str] = []
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                mirror.requests.append(self.path)
                content = mirror.files.get(self.path)
                if content is None:
                    self.send_error(404)
                    return
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if self.path in mirror.truncated else content)

            def log_message(self, format: str, *args: object) -> None:
                """Silent."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))
        self._thread.start()

    @property
    def url(self) -> str:
        """What KAITO_BINARIES_MIRROR is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    def publish(self, path: str, content: bytes, digest: str | None = None) -> None:
        """Serves a file and, beside it, its checksum file."""
        self.files[path] = content
        self.files[f"{path}.sha256"] = (digest or hashlib.sha256(content).hexdigest()).encode()

    def close(self) -> None:
        """Stops serving; the address answers no more."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@pytest.fixture
def mirror(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mirror]:
    """A mirror of our own, the one that downloads use."""
    running = Mirror()
    monkeypatch.setenv("KAITO_BINARIES_MIRROR", running.url)
    yield running
    running.close()
