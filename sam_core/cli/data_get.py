"""`data get`: have a named dataset on this machine."""

from __future__ import annotations

import argparse
import difflib
import shlex
import sys
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tqdm import tqdm

from sam_core.cli.options import add_common
from sam_core.config import DATASETS, DEFAULT_DATA_ROOT, ConfigError
from sam_core.datasets.sources import SOURCES, amount

GET = "get"

_DESCRIPTION = """\
Fetch a dataset from where it is published, check it against the published checksums, unpack it below --root, and
open it once. What is there already is not fetched again; after a cut or Ctrl-C the same command goes on where it was.
An archive that was fetched is removed when it is unpacked. By fetching a dataset you agree to its terms."""

_EXAMPLES = """\
examples:
  python -m sam_core data get cub200                                birds, with boxes, parts and masks
  python -m sam_core data get pets --root /data                     kept in /data, for --data-root /data
  python -m sam_core data get aircraft --url https://mirror/a.tgz   the same archive from elsewhere
  python -m sam_core data get cars --url https://mirror/cars/       all files of a set from one folder

An archive that you have already is taken from where it would be fetched to, if its checksum is right: the message
says where when a host no longer serves it. A folder that is called get is looked into with: data ./get"""


def add_to(parser: argparse.ArgumentParser) -> None:
    """Let `data` take `get NAME` beside the name or path of a dataset to look into."""
    getter = _parser(f"{parser.prog} {GET}")
    look_into = parser.parse_known_args

    def parse_known_args(args: Any = None, namespace: Any = None) -> tuple[argparse.Namespace, list[str]]:
        if args and args[0] == GET:
            return getter.parse_known_args(args[1:], namespace)
        return look_into(args, namespace)

    # A dataset's name and a verb cannot both be positional arguments of one parser of argparse.
    parser.parse_known_args = parse_known_args  # type: ignore[method-assign]
    parser.epilog = f"{parser.prog} {GET} NAME fetches a dataset that has a name; --help after it says more."


def _parser(prog: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=prog,
        description=f"{_DESCRIPTION}\n\n{_table()}",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("name", metavar="NAME", help="one of the datasets above")
    parser.add_argument(
        "--root",
        "--data-root",
        dest="root",
        type=Path,
        default=DEFAULT_DATA_ROOT,
        metavar="DIR",
        help="where named datasets are kept (data)",
    )
    parser.add_argument(
        "--url", metavar="URL", help="fetch from here: the archive, or, ending in /, a folder with all files of the set"
    )
    parser.add_argument("--keep-archive", action="store_true", help="keep the archives after they are unpacked")
    add_common(parser)
    return parser


def _table() -> str:
    from sam_core.datasets.catalog import DATASETS as ABOUT

    lines = []
    for name, about in ABOUT.items():
        source = SOURCES.get(name)
        size = "drawn" if source is None else "by hand" if source.gone else amount(source.size)
        lines.append(f"  {name:12} {size:>8}  {about.label}: {about.description}")
    return "datasets:\n" + "\n".join(lines)


def run(options: argparse.Namespace) -> dict[str, Any]:
    """Get it, and say what came."""
    name, url = _known(options.name), _address(options.url)
    if url and name == "fieldguide":
        raise ConfigError("url", "fieldguide is drawn by the program itself; leave --url out")

    from sam_core.datasets.get import get_dataset
    from sam_core.training.messages import Messages

    source = SOURCES.get(name)
    if source and not options.json:
        print(f"{name}: {source.terms}\n{source.homepage}", flush=True)
    messages, bar = Messages(), ByteBar()
    try:
        got = get_dataset(
            name,
            options.root,
            url=url,
            keep_archives=options.keep_archive,
            report=bar.show,
            count=messages.progress,
            say=bar.say,
        )
    finally:
        bar.close()
        messages.close()
    dataset = got.dataset
    result = {
        "name": name,
        "path": str(dataset.root),
        "layout": dataset.layout,
        "classes": len(dataset.classes),
        **{split: len(dataset.split(split)) for split in ("train", "test")},
        "problems": len(dataset.problems),
        "files": list(got.files),
        "without": list(got.without),
        "terms": source.terms if source else None,
        "homepage": source.homepage if source else None,
        "next": _train_command(name, options.root),
    }
    if not options.json:
        _print(result)
    return result


def _print(result: dict[str, Any]) -> None:
    drawn_or_there = "there already" if result["homepage"] else "drawn by the program"
    print(f"{result['path']}: {', '.join(result['files']) or drawn_or_there}")
    print(f"{result['layout']}: {result['classes']} classes")
    print(f"{result['train']:,} training and {result['test']:,} test images")
    if result["without"]:
        print(f"without {', '.join(result['without'])}")
    if result["problems"]:
        print(f"{result['problems']} problems: python -m sam_core data {shlex.quote(result['path'])} names them")
    print(f"train on it: {result['next']}")


def _train_command(name: str, root: Path) -> str:
    where = "" if root == DEFAULT_DATA_ROOT else f" --data-root {shlex.quote(str(root))}"
    return f"python -m sam_core train --dataset {name}{where} --label-ratio 10"


def _known(name: str) -> str:
    """The name of a dataset, or an error with the one that was meant."""
    if name in DATASETS:
        return name
    from sam_core.datasets.catalog import DATASETS as ABOUT

    also = {word.lower(): known for known, about in ABOUT.items() for word in (known, about.label, *about.folders)}
    close = difflib.get_close_matches(name.lower(), also, n=1)
    hint = f" (did you mean {also[close[0]]}?)" if close else ""
    raise ConfigError("name", f"must be one of {', '.join(DATASETS)}, not {name!r}{hint}")


def _address(url: str | None) -> str | None:
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_address = parts.scheme in ("http", "https") and bool(parts.hostname)
    except ValueError:
        is_address = False
    if not is_address or any(letter <= " " for letter in url):
        raise ConfigError("url", f"must be an address that begins with http:// or https://, not {url!r}")
    return url


class ByteBar:
    """How far a download is, on standard error: a bar on a terminal, elsewhere a line every `seconds`."""

    def __init__(self, seconds: float = 15.0) -> None:
        self.seconds = seconds
        self._bar: tqdm | None = None
        self._task = ""
        self._said = 0.0

    def show(self, task: str, done: int, total: int) -> None:
        """Bytes done, and of how many; a new task takes the place of the last."""
        if self._bar is None or task != self._task:
            self.close()
            self._task, self._said = task, time.monotonic()
            self._bar = tqdm(
                desc=task, initial=done, total=total, unit="B", unit_scale=True, file=sys.stderr,
                leave=False, dynamic_ncols=True, disable=None, smoothing=0.1,
            )  # fmt: skip
        if not self._bar.disable:
            self._bar.update(done - self._bar.n)
        elif time.monotonic() - self._said >= self.seconds:
            self._said = time.monotonic()
            self.say(f"{task}: {amount(done)} of {amount(total)}")

    def say(self, text: str) -> None:
        """A line that stays."""
        tqdm.write(text, file=sys.stderr)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None
