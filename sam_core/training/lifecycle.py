"""A run from its first file to its last word: begun, gone on with, stopped, failed or finished, as its folder says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sam_core.config import DEFAULT_RUNS, PRESETS, ConfigError, RunConfig
from sam_core.recording import layout
from sam_core.recording.reader import Run, open_run
from sam_core.recording.writer import RunError, RunWriter
from sam_core.team import Team
from sam_core.training.distributed import Onlooker, all_launches, begun_by, ending_together
from sam_core.training.failures import TrainingError, explain
from sam_core.training.loop import Trainer
from sam_core.training.messages import Messages
from sam_core.training.stopping import Stopped, StopRequest


def train(
    config: RunConfig | None = None, *, runs: str | Path = DEFAULT_RUNS, resume: str | Path | None = None,
    quiet: bool = False,
) -> Run:  # fmt: skip
    """Train one run, or go on with one that was stopped, and return it.

    Started by torchrun, the processes train it together, and each of them returns it.

    Args:
        config: what to train; the default is preset `quick`. Not used when resuming.
        runs: the folder in which the run's folder is made.
        resume: the path or id of a run to go on with, or to begin if it is only queued; a finished one is returned as
            it is.
        quiet: no progress on standard error.

    Raises:
        ValueError: for a choice or data that cannot be, before anything is written.
        TrainingError: if the run fails; the run folder says why and keeps what was recorded.
        KeyboardInterrupt: if it is stopped before it has begun; the folder of a queued run says so too.
    """
    with Team.join() as team:
        messages = Messages(quiet=quiet, mute=not team.is_first)
        try:
            with ending_together(team):
                if resume is None:
                    return _begin(config or RunConfig(**PRESETS["quick"]), Path(runs), messages, team)
                folder = team.from_first(lambda: str(open_run(resume, Path(runs)).folder))
                return _go_on(Run(Path(folder)), messages, team)
        except Stopped:  # by another process of the team, while there was no folder that could say so
            raise KeyboardInterrupt from None
        finally:
            messages.close()


def _begin(config: RunConfig, runs: Path, messages: Messages, team: Team) -> Run:
    """Train a new run. Everything that can be refused is refused before its first file.

    Processes that torchrun has started anew, because one of them had ended, go on with the run that they had begun.
    """
    config = _same_for_all(team, lambda: config)
    launches = all_launches(team)
    begun = team.from_first(lambda: begun_by(launches, runs, config))
    if begun is not None:
        return _go_on(Run(Path(begun)), messages, team)
    trainer = Trainer(config, messages, team=team)
    team.meet("the beginning")
    known = {"launches": launches} if launches else None
    try:
        writer = _writer(team, lambda: RunWriter.create(runs, config, epochs=trainer.plan.epochs, environment=known))
    except OSError as error:  # a full disk, a folder that may not be written
        raise explain(error) from error
    with _recording_the_end(writer, messages, trainer.stop, team):
        trainer.run(writer)
    return Run(writer.folder.resolve())


def _go_on(run: Run, messages: Messages, team: Team) -> Run:
    """Train a run whose folder is there: queued, stopped, failed or cut; a finished one is left as it is.

    The folder is this process's from the start, so that it tells of a failure while the data are opened too.
    """
    if team.from_first(lambda: _is_finished(run)):
        return run
    writer, stop = _writer(team, lambda: RunWriter(run.folder)), StopRequest()
    if team.from_first(lambda: _is_finished(run)):  # by another process, which had the folder when this one asked
        writer.close()
        return run
    with _recording_the_end(writer, messages, stop, team):
        writer.take_over()
        config = _same_for_all(team, lambda: run.config)
        trainer = Trainer(config, messages, stop, team)
        team.meet("the beginning", stop.give_way)
        trainer.run(writer)
    return run


def _same_for_all(team: Team, read: Callable[[], RunConfig]) -> RunConfig:
    """The configuration that the first process reads; the others may not even be able to see the run's folder."""
    if team.size == 1:
        return read()
    return RunConfig.from_json(team.from_first(lambda: read().to_json()))


def _writer(team: Team, opened: Callable[[], RunWriter]) -> RunWriter | Onlooker:
    """What writes the run folder: the first process of the team opens it."""
    writer = opened() if team.is_first else None
    folder = team.from_first(lambda: str(writer.folder))
    return writer or Onlooker(Path(folder))


def _is_finished(run: Run) -> bool:
    try:
        status = run.status
    except RunError:
        return False  # unreadable after a power cut; going on writes it again
    return isinstance(status, dict) and status.get("state") == "finished"


@contextmanager
def _recording_the_end(
    writer: RunWriter | Onlooker, messages: Messages, stop: StopRequest, team: Team
) -> Iterator[None]:
    """Listen for a request to stop; however the work inside ends, the run folder says so, and is let go of."""

    def record_end(error: BaseException) -> None:
        stop.too_late = True
        stopped = isinstance(error, Stopped | KeyboardInterrupt)
        failure = None if stopped else _explained(error).as_json()
        writer.last_status(state="stopped" if stopped else "failed", eta_s=None, error=failure)

    with stop.listening(lambda: writer.status(state="stopping")):
        try:
            messages.open_log(writer.folder / layout.LOG)
            with ending_together(team, record_end):
                yield
        except Stopped as error:
            record_end(error)
            messages.say(f"stopped; python -m sam_core train --resume {writer.folder.name} goes on")
        except BaseException as error:
            messages.log_traceback()
            record_end(error)
            if isinstance(error, Exception) and not isinstance(error, TrainingError):
                raise _explained(error) from error
            raise
        finally:
            writer.close()


def _explained(error: BaseException) -> TrainingError:
    """The error for status.json; a choice that cannot be has another remedy once the run has a folder."""
    if isinstance(error, ConfigError):
        hint = "put right what it names, then --resume; the run keeps its configuration, a new one can have another"
        return TrainingError(type(error).__name__, str(error), hint)
    return explain(error)
