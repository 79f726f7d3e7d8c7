"""One server's parts: where it may look, the runs it knows, the processes it started; for views, routes and API."""

from __future__ import annotations

from explorer.attention.gallery import Rankings
from explorer.attention.networks import Networks
from explorer.attention.timelines import Messages
from explorer.data.additions import Additions
from explorer.data.checks import Checks
from explorer.data.datasets import Datasets
from explorer.data.shelf import Shelf
from explorer.places import Places
from explorer.runs.jobs import Jobs
from explorer.runs.library import Library
from explorer.runs.live import Feeds
from explorer.runs.opened import OpenRuns
from explorer.runs.outlook import Forecaster
from sam_core.config import RunConfig


class Explorer:
    """Everything that a handler needs. Nothing here belongs to one page or one person."""

    def __init__(self, places: Places, *, per_device: int = 1) -> None:
        places.runs.mkdir(parents=True, exist_ok=True)
        self.places = places
        self.library = Library(places)
        self.feeds = Feeds()
        self.runs = OpenRuns(places)
        self.messages = Messages()
        self.rankings = Rankings()
        self.networks = Networks()
        self.shelf = Shelf(places)
        self.additions = Additions(places)
        self.datasets = Datasets(places, self.shelf, self.additions)
        self.checks = Checks(places, self.shelf)
        self.forecaster = Forecaster(self.shelf)
        self.jobs = Jobs(places.runs, per_device=per_device)

    def start(self, config: RunConfig, *, processes: int = 1) -> str:
        """Start or queue a run, by several processes if there are as many GPUs; returns its id.

        What the data refuse is refused before anything is written.

        Raises:
            DatasetError: if its dataset cannot be used.
            JobError: if the run cannot be made here.
        """
        self.forecaster.outlook(config)
        run_id = self.jobs.start(config, processes=processes)
        self.library.look_again()
        return run_id

    def stop(self, run_id: str) -> str:
        """Stop a run; returns the state that it is now shown in. The demonstration is refused, here and below."""
        state = self.jobs.stop(self.places.own_run_folder(run_id).name)
        self.library.look_again()
        return state

    def resume(self, run_id: str) -> str:
        """Go on with a run; returns the state that it is now shown in."""
        state = self.jobs.resume(self.places.own_run_folder(run_id).name)
        self.library.look_again()
        return state

    def delete(self, run_id: str) -> None:
        """Remove a run."""
        self.jobs.delete(self.places.own_run_folder(run_id).name)
        self.library.look_again()

    def close(self) -> None:
        """Let go of threads and networks. Runs go on."""
        self.shelf.close()
        self.checks.close()
        self.jobs.close()
        self.networks.forget()
