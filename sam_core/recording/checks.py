"""Whether a stranger's zip holds a recorded run: its names, its JSON, the headers of its arrays.

Everything is read within the zip; nothing is written, and nothing unpickled. Whatever is not as a run has it is a
`RunError` that names the file.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from sam_core.recording import content, layout
from sam_core.recording.content import IDS, KNOWN_KINDS, META
from sam_core.recording.notes import Notes
from sam_core.recording.writer import RunError
from sam_core.zips import is_encrypted, is_link_or_device, is_unusually_packed

#: JSON is parsed in memory: samples.json of 200,000 samples has about half of this.
MAX_JSON_BYTES = 128 * 1024**2

_Value = TypeVar("_Value")

_ARRAYS = "|".join(re.escape(layout.map_file(Path(), kind).stem) for kind in KNOWN_KINDS)
#: Every file that a packed run can have, by its name in the run folder.
RUN_FILE = re.compile(
    "|".join(
        (
            *map(re.escape, (layout.CONFIG, layout.ENVIRONMENT, layout.STATUS, layout.METRICS, layout.SAMPLES)),
            *map(re.escape, (layout.CLASSES, layout.NOTES, layout.EVALUATION, layout.LOG, layout.MODEL)),
            rf"{layout.ATTENTION}/(?:{_ARRAYS}|predicted|confidence|epochs)\.npy",
            *map(re.escape, (META, IDS)),
            rf"{layout.KEPT}/epoch-[0-9]{{5,9}}\.safetensors",
            rf"{layout.VIEWS}/[0-9]{{5,9}}(?:\.jpg|-mask\.png)",
        )
    )
)
FOLDERS = ("", f"{layout.ATTENTION}/", f"{layout.KEPT}/", f"{layout.VIEWS}/")
#: A run's id is plain in a file system, in a URL and on a command line; here with room for a number behind it.
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,189}")

_ODD_CHARACTERS = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_DEVICE_NAMES = {"CON", "PRN", "AUX", "NUL", *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10))}


# --- Names --------------------------------------------------------------------------------------------------------


def check_names(infos: Sequence[zipfile.ZipInfo], max_files: int) -> tuple[str, dict[str, zipfile.ZipInfo]]:
    """Check the directory of a zip: one folder, and in it no file that a run does not have.

    Returns:
        The run's id, and the zip's entries by their names in the run folder.
    """
    if len(infos) > max_files:
        raise RunError(f"the archive has {len(infos):,} files, the limit is {max_files:,}", "pack the run again")
    entries: dict[str, zipfile.ZipInfo] = {}
    tops, seen = set(), set()
    for info in infos:
        name = info.orig_filename  # as it stands in the archive: zipfile itself cuts it at a zero byte
        _check_kind(info, name)
        top, _, inside = name.partition("/")
        tops.add(top)
        if name == top or not (inside in FOLDERS or RUN_FILE.fullmatch(inside)):
            raise refusal(name, "is no file of a recorded run")
        if name.casefold() in seen:
            raise refusal(name, "is there twice")
        seen.add(name.casefold())
        if inside not in FOLDERS:
            entries[inside] = info
    if len(tops) != 1:
        raise RunError("the archive must hold one folder, the run's", "pack one run, and add nothing to the zip")
    run_id = tops.pop()
    if not RUN_ID.fullmatch(run_id):
        raise refusal(run_id, "is no name for a run")
    for name in (layout.CONFIG, layout.STATUS):
        if name not in entries:
            raise RunError(f"the archive holds no run: {name} is missing", "pack the run again")
    return run_id, entries


def _check_kind(info: zipfile.ZipInfo, name: str) -> None:
    """Refuse what is no plain file under a plain name."""
    if is_encrypted(info):
        raise RunError("the archive is encrypted", "pack it without a password")
    if not _is_plain(name):
        raise refusal(name, "is no plain name inside the run's folder")
    if is_link_or_device(info):
        raise refusal(name, "is a link or a device, not a file")
    if is_unusually_packed(info):
        raise refusal(name, "is compressed in an unusual way")


def _is_plain(name: str) -> bool:
    """Whether a name stays where it is put, on every system."""
    for part in name.removesuffix("/").split("/"):
        if part in ("", ".", "..") or part[-1] in ". " or _ODD_CHARACTERS.search(part):
            return False
        if part.split(".")[0].rstrip().upper() in _DEVICE_NAMES:
            return False
    return True


# --- Content ------------------------------------------------------------------------------------------------------


def check_content(archive: zipfile.ZipFile, entries: Mapping[str, zipfile.ZipInfo]) -> dict[str, Any]:
    """Check every JSON file and the header of every array.

    Args:
        archive: the zip.
        entries: its entries by their names in the run folder, from `check_names`.

    Returns:
        The values of the JSON files by name.
    """
    values = {name: _read_json(archive, info, name) for name, info in entries.items() if name.endswith(".json")}
    if layout.METRICS in entries:
        _check_size(entries[layout.METRICS], layout.METRICS)  # a page that shows the run holds its curves in memory
    checked(content.as_config, values[layout.CONFIG], layout.CONFIG)
    checked(content.as_status, values[layout.STATUS], layout.STATUS)
    _check_people_words(values)
    samples = checked(content.as_samples, values.get(layout.SAMPLES, []), layout.SAMPLES)
    _check_attention(archive, entries, values, samples)
    return values


def parse_json(data: bytes, name: str) -> Any:
    """The value of a JSON file of a run, which can be written again."""
    value = checked(content.parse_json, data, name)
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")  # half a character (\ud800) can be read and not written
    except (ValueError, RecursionError) as error:
        raise damaged(name, f"it is no JSON: {content.brief(error)}") from error
    return value


def checked(check: Callable[[Any], _Value], value: Any, name: str) -> _Value:
    """`value` of the file `name` as a function of `content` returns it, or a `RunError` that names the file."""
    try:
        return check(value)
    except ValueError as error:
        raise damaged(name, str(error)) from error


def _read_json(archive: zipfile.ZipFile, info: zipfile.ZipInfo, name: str) -> Any:
    _check_size(info, name)
    with archive.open(info) as packed:
        return parse_json(packed.read(MAX_JSON_BYTES), name)


def _check_size(info: zipfile.ZipInfo, name: str) -> None:
    if info.file_size > MAX_JSON_BYTES:
        raise damaged(name, f"it has {info.file_size:,} bytes, the limit is {MAX_JSON_BYTES:,}")


def _check_people_words(values: Mapping[str, Any]) -> None:
    """The other files of the run folder's top, as far as they are there."""
    for name in (layout.ENVIRONMENT, layout.EVALUATION):
        checked(content.as_object, values.get(name, {}), name)
    if layout.CLASSES in values:
        checked(content.as_classes, values[layout.CLASSES], layout.CLASSES)
    if layout.NOTES in values:
        checked(Notes.from_json, values[layout.NOTES], layout.NOTES)


def _check_attention(
    archive: zipfile.ZipFile,
    entries: Mapping[str, zipfile.ZipInfo],
    values: Mapping[str, Any],
    samples: Sequence[Mapping[str, Any]],
) -> None:
    """Check that the arrays are those that meta.json and samples.json describe, and no others."""
    found = {name for name in entries if name.startswith(f"{layout.ATTENTION}/")}
    if not found:
        return
    meta = checked(content.as_recording, values.get(META), META)
    forms = content.expected_arrays(meta, len(samples))
    expected = {f"{layout.ATTENTION}/{stem}.npy": form for stem, form in forms.items()}
    for name in sorted(set(expected) - found):
        raise damaged(name, "it is missing")
    for name in sorted(found - set(expected) - {META, IDS}):
        raise damaged(name, f"it is not among the maps that {META} names")
    if IDS in values and values[IDS] != [sample["id"] for sample in samples]:
        raise damaged(IDS, f"it must have the ids of {layout.SAMPLES}")
    for name, form in expected.items():
        with archive.open(entries[name]) as packed:
            size = entries[name].file_size
            checked(lambda file: content.check_array(file, size, form), packed, name)  # noqa: B023 (called at once)


# --- Errors -------------------------------------------------------------------------------------------------------


def refusal(name: str, why: str) -> RunError:
    """A file that has no place in a packed run."""
    shown = name if len(name) <= 120 else f"{name[:120]}..."
    return RunError(f"{shown!a} in the archive {why}", "unpack only what was packed as a run")


def damaged(name: str, why: str) -> RunError:
    """A file of a run whose content cannot be."""
    return RunError(f"{name} of the run is damaged: {why}", "pack the run again where it was made")
