"""`python -m explorer`: start the server, or measure its figures."""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
import webbrowser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sam_core.config import DEFAULT_DATA_ROOT, DEFAULT_RUNS

if TYPE_CHECKING:
    import uvicorn

EXAMPLES = """\
examples:
  python -m explorer                                   on this computer only, opens the browser
  python -m explorer --data-root ~/photos              folders of photographs below ~/photos can be chosen and shown
  python -m explorer --host 0.0.0.0 --auth me:secret   for everybody in this network who knows the password
  python -m explorer benchmark --json                  the explorer's figures on this machine
"""


#: A command line can be read by every user of a machine.
AUTH_VARIABLE = "SAM_EXPLORER_AUTH"


def build_parser() -> argparse.ArgumentParser:
    """The options of the server."""
    parser = argparse.ArgumentParser(
        prog="python -m explorer",
        description="Start low-label runs in the browser, watch them live, and compare where the network looks in each "
        "image and at every epoch. Runs are processes of their own: they go on when the page or this server is closed.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (127.0.0.1: this computer only)")
    parser.add_argument("--port", type=int, default=7860, help="port, or the next free one (7860; 0: any)")
    parser.add_argument(
        "--runs", type=Path, default=DEFAULT_RUNS, metavar="DIR", help="folder of the run folders (checkpoints/runs)"
    )
    parser.add_argument(
        "--data-root", type=Path, action="append", metavar="DIR",
        help="folder whose images may be shown and trained on; may be given again (default: data)",
    )  # fmt: skip
    parser.add_argument(
        "--auth", metavar="USER:PASS",
        help=f"ask everybody for this name and password; {AUTH_VARIABLE} in the environment says the same unseen by "
        "other users of this machine",
    )  # fmt: skip
    parser.add_argument("--per-device", type=int, default=1, metavar="N", help="runs at once on each device (1)")
    parser.add_argument("--no-browser", action="store_true", help="do not open the browser")
    parser.add_argument("--debug", action="store_true", help="show where in the program an error came from")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the server until Ctrl-C; returns the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    if arguments[:1] == ["benchmark"]:
        from explorer.benchmark.command import main as measure

        return measure(arguments[1:])
    options = build_parser().parse_args(arguments)
    given = os.environ.pop(AUTH_VARIABLE, None)  # the processes of the runs need not know it
    options.auth = options.auth or given
    wrong = _what_is_wrong(options)
    if wrong:
        print(f"error: {wrong}", file=sys.stderr)
        return 2
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # before Gradio is imported: nothing is sent anywhere
    return serve(options)


def _what_is_wrong(options: argparse.Namespace) -> str | None:
    if not 0 <= options.port <= 65_535:
        return f"port: must be between 0 and 65535, not {options.port}"
    if options.per_device < 1:
        return f"per-device: must be at least 1, not {options.per_device}"
    if options.auth is not None and (":" not in options.auth or not all(options.auth.split(":", 1))):
        return f"auth: --auth and {AUTH_VARIABLE} must be NAME:PASSWORD"
    for root in options.data_root or ():
        if not root.expanduser().is_dir():
            return f"data-root: there is no folder {root}; give an existing one"
    return None


def serve(options: argparse.Namespace) -> int:
    """Listen until interrupted."""
    import uvicorn

    from explorer.context import Explorer
    from explorer.places import Places
    from explorer.server import free_port, is_loopback, make_app
    from explorer.warming import warm_up

    # The first root is where the program keeps what it draws and downloads; a person's folders are read only.
    roots = (DEFAULT_DATA_ROOT, *(options.data_root or ()))
    try:
        port = free_port(options.host, options.port)
    except OSError as error:
        _say(f"error: port: cannot listen on {options.host}:{options.port} ({error.strerror or error})")
        _say("hint: choose another --port, or another --host")
        return 1
    if port != options.port and options.port:
        _say(f"port {options.port} is taken; using {port}")
    auth = tuple(options.auth.split(":", 1)) if options.auth else None
    if not is_loopback(options.host) and auth is None:
        _say(
            f"warning: everybody who can reach {options.host} can start and delete runs here; --auth NAME:PASSWORD asks"
        )
    try:
        explorer = Explorer(Places(options.runs, data_roots=roots), per_device=options.per_device)
    except OSError as error:
        _say(f"error: runs: cannot make the folder {options.runs} ({error.strerror or error})")
        return 1
    app = make_app(explorer, host=options.host, port=port, auth=auth)
    shown = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{'127.0.0.1' if options.host in ('0.0.0.0', '::') else shown}:{port}"

    def ready() -> None:
        _say(f"SAM Explorer is ready: {address}   (Ctrl-C ends the server; runs go on)")
        if not options.no_browser:
            webbrowser.open(address)
        warm_up(explorer)

    server = uvicorn.Server(
        uvicorn.Config(
            app, host=options.host.strip("[]"), port=port, log_level="debug" if options.debug else "warning",
            timeout_graceful_shutdown=3, access_log=options.debug,
        )
    )  # fmt: skip
    beside = threading.Thread(target=_when_started, args=(server, ready), daemon=True)
    beside.start()
    with contextlib.suppress(KeyboardInterrupt):  # raised again by uvicorn when it has shut down
        server.run()
    # A thread that still computes while Python takes itself apart would end the process with a crash.
    beside.join(timeout=20)
    return 0


def _when_started(server: uvicorn.Server, ready: Callable[[], None]) -> None:
    while not server.started:
        if server.should_exit:
            return
        time.sleep(0.02)
    ready()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
