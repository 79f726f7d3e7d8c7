from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from explorer import cli
from explorer.cli import build_parser, main
from sam_core.config import PROJECT_ROOT


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["--port", "99999"], "port"),
        (["--auth", "nameonly"], "auth"),
        (["--auth", ":secret"], "auth"),
        (["--data-root", "/no/such/folder"], "data-root"),
        (["--per-device", "0"], "per-device"),
    ],
)
def test_wrong_options_are_refused_by_name(arguments, word, capsys):
    assert main([*arguments, "--no-browser"]) == 2
    assert word in capsys.readouterr().err


def test_a_runs_folder_that_cannot_be_made_is_said(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--no-browser", "--port", "0", "--runs", str(tmp_path / "file" / "runs")]) == 1
    assert "runs" in capsys.readouterr().err


def test_help_teaches_and_does_not_wait_for_torch():
    text = build_parser().format_help()
    for option in ("--host", "--port", "--runs", "--data-root", "--auth", "--no-browser", "examples:"):
        assert option in text
    code = (
        "import sys, explorer.cli; explorer.cli.build_parser(); print('torch' in sys.modules, 'gradio' in sys.modules)"
    )
    said = subprocess.run([sys.executable, "-c", code], cwd=PROJECT_ROOT, capture_output=True, text=True, check=True)
    assert said.stdout.strip() == "False False"


def test_a_password_in_the_environment_is_taken_and_handed_on_to_nobody(monkeypatch: pytest.MonkeyPatch, capsys):
    heard = []
    monkeypatch.setattr(cli, "serve", lambda options: heard.append((options.auth, dict(os.environ))) or 0)
    monkeypatch.setenv("SAM_EXPLORER_AUTH", "teacher:hidden")
    assert main(["--no-browser"]) == 0
    ((auth, environment),) = heard
    assert auth == "teacher:hidden"
    assert "hidden" not in " ".join(environment.values())
    monkeypatch.setenv("SAM_EXPLORER_AUTH", "hidden")
    assert main(["--no-browser"]) == 2
    assert "hidden" not in capsys.readouterr().err


def test_the_server_starts_says_where_it_is_and_ends_with_ctrl_c(tmp_path: Path):
    command = [sys.executable, "-m", "explorer", "--no-browser", "--port", "0", "--runs", str(tmp_path / "runs")]
    process = subprocess.Popen(
        command, cwd=PROJECT_ROOT, stderr=subprocess.PIPE, text=True,
        env=os.environ | {"LANG": "C", "SAM_EXPLORER_AUTH": "teacher:hidden"},
    )  # fmt: skip
    try:
        address, deadline = None, time.monotonic() + 90
        while address is None and time.monotonic() < deadline:
            found = re.search(r"ready: (http://\S+)", process.stderr.readline())
            address = found and found[1]
        assert address, "the server did not say that it is ready"
        assert address.startswith("http://127.0.0.1:"), "only this computer can reach it, unless told otherwise"
        with urllib.request.urlopen(address, timeout=20) as answer:
            assert answer.status == 200
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{address}/config", timeout=20)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        said = process.stderr.read()
        assert "Traceback" not in said
        assert "hidden" not in said
    finally:
        process.kill()
        process.wait()
