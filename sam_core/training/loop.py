"""The training loop: one for every method, resumable after any epoch."""

from __future__ import annotations

import statistics
import time
from pathlib import Path
from typing import Any

import torch

from sam_core.augment import draw_view, normalise, train_views, view_box
from sam_core.config import DEFAULT_RUNS, PRESETS, PRETRAINED_DIR, ConfigError, RunConfig
from sam_core.datasets.run_data import RunData, load_run_data
from sam_core.device import Machine, choose_machine
from sam_core.evaluation.evaluator import GroupResult, evaluate_group
from sam_core.evaluation.groups import build_groups, choose_recorded, describe_samples
from sam_core.evaluation.maps import kinds_of
from sam_core.models.backbones import data_config
from sam_core.models.sam_net import SAMNet, build_model
from sam_core.recording import layout
from sam_core.recording.reader import Run, open_run
from sam_core.recording.writer import RunWriter
from sam_core.training.failures import TrainingError, explain
from sam_core.training.messages import Messages, tensorboard_writer
from sam_core.training.optimiser import attention_weight_at, build_optimiser, learning_rate_factor, set_learning_rates
from sam_core.training.plan import Plan
from sam_core.training.step import training_losses
from sam_core.training.stopping import Stopped, StopRequest

#: Losses stay on the device for so many steps at most before they are read back and written.
LOG_EVERY = 10


def train(
    config: RunConfig | None = None, *, runs: str | Path = DEFAULT_RUNS, resume: str | Path | None = None,
    quiet: bool = False,
) -> Run:  # fmt: skip
    """Train one run, or go on with one that was stopped, and return it.

    Args:
        config: what to train; the default is preset `quick`. Not used when resuming.
        runs: the folder in which the run's folder is made.
        resume: the path or id of a run to go on with; a finished one is returned as it is.
        quiet: no progress on standard error.

    Raises:
        ValueError: for a choice or data that cannot be, before anything is written.
        TrainingError: if the run fails; the run folder says why and keeps what was recorded.
    """
    if resume is not None:
        run = open_run(resume, Path(runs))
        if run.status["state"] == "finished":
            return run
        config = run.config
    config = config or RunConfig(**PRESETS["quick"])
    messages = Messages(quiet=quiet)
    try:
        trainer = Trainer(config, messages)  # everything that can be refused is refused here, before the first file
        if resume is None:
            writer = RunWriter.create(Path(runs), config, epochs=trainer.plan.epochs)
        else:
            writer = RunWriter(run.folder)
        trainer.run(writer)
    finally:
        messages.close()
    return open_run(writer.folder)


class Trainer:
    """One run: its data, network and optimiser, and the loop over its epochs."""

    def __init__(self, config: RunConfig, messages: Messages) -> None:
        self.config = config
        self.messages = messages
        self.machine: Machine = choose_machine(config.device, config.precision)
        self.data: RunData = load_run_data(config, messages.progress)
        self.plan = Plan.of(config, len(self.data.groups["labelled"]))
        self.model = self._build_model()
        self.normalisation = data_config(config.backbone)
        self.optimiser = build_optimiser(self.model, config)
        if config.pooling == "compact" and len(self.plan.batch(0)[1]) < 2:
            raise ConfigError("batch_size", "compact pooling normalises over the batch and needs two images in each")
        if config.tensorboard:
            tensorboard_writer()  # refused now, not when the run folder is there
        self.stop = StopRequest()
        self._epoch_seconds: list[float] = []

    def _build_model(self) -> SAMNet:
        torch.manual_seed(self.config.seed)
        model = build_model(
            backbone=self.config.backbone,
            classes=len(self.data.classes),
            method=self.config.method,
            pooling=str(self.config.pooling),
            attention_maps=int(self.config.attention_maps or 0),
            weights=self.config.weights,
            pretrained_dir=PRETRAINED_DIR,
        )
        model.head.use_pooling(self.config.pooling_at(0))
        return model.to(self.machine.device, memory_format=torch.channels_last)

    # --- the run ------------------------------------------------------------------------------------------------

    def run(self, writer: RunWriter) -> None:
        """Train to the end, or until stopped; the folder's status says which, also after a failure."""
        self.writer = writer
        self.messages.open_log(writer.folder / layout.LOG)
        try:
            with self.stop.listening(lambda: writer.status(state="stopping")):
                self._run()
        except Stopped:
            writer.status(state="stopped", eta_s=None)
            self.messages.say(f"stopped; python -m sam_core train --resume {writer.folder.name} goes on")
        except BaseException as error:
            failure = explain(error)
            self.messages.log_traceback()
            state = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
            writer.last_status(state=state, eta_s=None, error=failure.as_json() if state == "failed" else None)
            if isinstance(error, Exception) and not isinstance(error, TrainingError):
                raise failure from error
            raise
        finally:
            writer.close()

    def _run(self) -> None:
        finished = self._restore_or_start()
        self._announce(finished)
        if finished < 0:
            finished = 0
            self._finish_epoch(0, {}, started=time.monotonic())
        for epoch in range(finished + 1, self.plan.epochs + 1):
            started = time.monotonic()
            losses = self._train_epoch(epoch)
            self._finish_epoch(epoch, losses, started=started)
            self._epoch_seconds.append(time.monotonic() - started)
        self.writer.save_weights(self.model.state_dict())
        self.writer.status(state="finished", eta_s=0)
        self.messages.say("finished")

    def _restore_or_start(self) -> int:
        """Bring the run folder and the network to the last finished epoch, and return it; -1 if there is none."""
        recorded = choose_recorded(self.data, self.config.record)
        grid = self._feature_grid()
        self.kinds = kinds_of(self.config)
        self.groups = build_groups(self.data, recorded, image_size=self.config.image_size, grid=grid)
        if (self.writer.folder / layout.LAST).exists():
            finished = self._restore()
        else:
            finished = -1
            self._start(recorded, grid)
        step = self.plan.steps_until(max(finished, 0))
        self.writer.take_over(epoch=max(finished, 0), epochs=self.plan.epochs, step=step, steps=self.plan.steps)
        return finished

    def _restore(self) -> int:
        """Load the last finished epoch and forget what was written after it."""
        state = torch.load(self.writer.folder / layout.LAST, map_location=self.machine.device, weights_only=True)
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        finished = int(state["epoch"])
        self.writer.keep_metrics_until(epoch=finished)
        self.writer.reopen_attention(until=finished)
        return finished

    def _start(self, recorded: list[tuple[str, int]], grid: tuple[int, int]) -> None:
        """Write what a run folder has from the beginning: classes, samples, and the space for every map."""
        mean, std = self.normalisation
        self.writer.start_over()
        self.writer.write_classes(
            {
                "classes": list(self.data.classes),
                "backbone": self.config.backbone,
                "mean": list(mean),
                "std": list(std),
                "image_size": self.config.image_size,
                "steps": self.plan.steps,
                "steps_per_epoch": self.plan.steps_per_epoch,
            }
        )
        self.writer.start_attention(
            describe_samples(self.data, recorded),
            kinds=self.kinds,
            grid=grid,
            epochs=self.plan.recording_points,
            view=view_box(self.data.store.side, self.config.image_size),
        )

    def _feature_grid(self) -> tuple[int, int]:
        """Height and width of the feature map at this image size, from one empty image in evaluation mode."""
        size = self.config.image_size
        image = torch.zeros(1, 3, size, size, device=self.machine.device)
        self.model.eval()
        with torch.no_grad():
            features = self.model.backbone.forward_features(image)
        self.model.train()
        return tuple(features.shape[-2:])

    # --- one epoch ----------------------------------------------------------------------------------------------

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        """All steps of one epoch; returns the mean losses."""
        self.model.train()
        torch.manual_seed(_derived_seed(self.config.seed, epoch))  # for networks with dropout
        first, last = self.plan.steps_until(epoch - 1), self.plan.steps_until(epoch)
        every = max(1, min(LOG_EVERY, (last - first) // 20))
        waiting: list[dict[str, torch.Tensor]] = []
        totals: dict[str, float] = {}
        started = time.monotonic()
        for step in range(first, last):
            waiting.append(self._step(step))
            done = step + 1
            if len(waiting) == every or done == last:
                means = self._read_losses(waiting, epoch, done)
                for name, value in means.items():
                    totals[name] = totals.get(name, 0.0) + value * len(waiting)
                waiting.clear()
            self._report_progress(epoch, done, (time.monotonic() - started) / (done - first))
            self.stop.give_way()
        return {name: value / (last - first) for name, value in totals.items()}

    def _step(self, step: int) -> dict[str, torch.Tensor]:
        """One optimisation step. Nothing is read back from the device here."""
        config, steps = self.config, self.plan.steps
        images, labels = self._batch(step)
        set_learning_rates(self.optimiser, learning_rate_factor(step, steps, config))
        self.model.head.use_pooling(config.pooling_at(step))
        with self.machine.autocast():
            losses = training_losses(self.model, images, labels, config, attention_weight_at(step, steps, config))
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimiser.step()
        return {name: value.detach() for name, value in losses.items()}

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        config, store = self.config, self.data.store
        number, places = self.plan.batch(step)
        positions = torch.tensor([self.data.groups["labelled"][place] for place in places])
        views = [
            draw_view(
                f"view/{config.seed}/{number}/{place}", augment=config.augment, side=store.side,
                size=config.image_size, crop_scale=config.crop_scale,
            )
            for place in places
        ]  # fmt: skip
        images = train_views(store.take(positions), views, config.image_size).to(self.machine.device)
        return normalise(images, *self.normalisation), store.labels[positions].to(self.machine.device)

    def _read_losses(self, waiting: list[dict[str, torch.Tensor]], epoch: int, step: int) -> dict[str, float]:
        """Mean losses of some steps, read back in one transfer and written as one line of metrics.jsonl."""
        names = list(waiting[0])
        table = torch.stack([torch.stack([losses[name] for name in names]) for losses in waiting])  # (steps, names)
        means = dict(zip(names, table.double().mean(dim=0).tolist(), strict=True))
        if not torch.isfinite(table).all():
            raise TrainingError(
                "non-finite loss",
                f"the loss became infinite or undefined at step {step} of epoch {epoch}",
                f"lower --lr (now {self.config.lr:g}) or --attention-weight, then start again; "
                f"what was recorded until epoch {epoch - 1} is kept",
            )
        rate = self.optimiser.param_groups[0]["lr"]
        self.writer.append_metrics({"kind": "step", "epoch": epoch, "step": step, **_rounded(means), "lr": rate})
        self.messages.scalars("step", step, means | {"lr": rate})
        return means

    def _finish_epoch(self, epoch: int, losses: dict[str, float], *, started: float) -> None:
        """Evaluate and record where the plan says so, write the epoch's line, and save what resuming needs."""
        self.model.head.use_pooling(self.config.pooling_at(self.plan.steps_until(epoch)))
        entry: dict[str, Any] = {"kind": "epoch", "epoch": epoch, "train": _rounded(losses)}
        if epoch in self.plan.recording_points:
            results = self._evaluate(epoch)
            # Accuracy on the training images belongs beside their losses; it is measured in evaluation mode.
            labelled = results.pop("labelled", {})
            entry["train"] |= {name: labelled[name] for name in ("top1", "top5") if name in labelled}
            entry |= results
        entry["seconds"] = round(time.monotonic() - started, 3)
        self.writer.append_metrics(entry)
        self._keep_weights(epoch)
        self.writer.save_last(
            {"epoch": epoch, "model": self.model.state_dict(), "optimiser": self.optimiser.state_dict()}
        )
        self.writer.status(epoch=epoch, step=self.plan.steps_until(epoch))
        self.messages.epoch_line(entry, self.plan.epochs)

    def _evaluate(self, epoch: int) -> dict[str, Any]:
        point = self.plan.recording_points.index(epoch)
        attention_writer = self.writer.attention
        done, total = 0, sum(len(group.positions) for group in self.groups.values())

        def advance(images: int) -> None:
            nonlocal done
            done += images
            self.messages.progress(f"evaluating epoch {epoch}", done, total)
            self.writer.status(force=False)
            self.stop.give_way()

        results: dict[str, GroupResult] = {}
        for name, group in self.groups.items():
            results[name] = evaluate_group(
                self.model,
                self.data.store,
                group,
                self.config,
                self.machine,
                normalisation=self.normalisation,
                kinds=self.kinds,
                record=lambda rows, *maps: attention_writer.record(rows, point, *maps),
                progress=advance,
            )
        attention_writer.finish_point(point)
        return _epoch_results(results)

    def _keep_weights(self, epoch: int) -> None:
        every = self.config.keep_checkpoints
        if every and (epoch % every == 0 or epoch == self.plan.epochs):
            self.writer.save_weights(self.model.state_dict(), epoch=epoch)

    # --- progress ----------------------------------------------------------------------------------------------

    def _announce(self, finished: int) -> None:
        config, data = self.config, self.data
        for problem in data.problems:
            self.messages.say(f"left out: {problem.path}: {problem.detail}")
        groups = ", ".join(f"{len(positions)} {name}" for name, positions in data.groups.items())
        self.messages.say(f"{config.method} on {data.dataset.name}: {len(data.classes)} classes, {groups} images")
        self.messages.say(f"{self.model.weights_origin}; run folder: {self.writer.folder}")
        if finished >= 0:
            self.messages.say(f"going on after epoch {finished} of {self.plan.epochs}")
        if config.tensorboard:
            self.messages.open_tensorboard(self.writer.folder / "tensorboard")

    def _report_progress(self, epoch: int, step: int, seconds_per_step: float) -> None:
        """Status and progress bar; the time left counts evaluations once an epoch has shown what they take."""
        if self._epoch_seconds:
            epochs_left = (self.plan.steps - step) / self.plan.steps_per_epoch
            left = epochs_left * statistics.median(self._epoch_seconds)
        else:
            left = (self.plan.steps - step) * seconds_per_step
        self.writer.status(force=False, step=step, eta_s=round(left, 1))
        self.messages.progress(f"epoch {epoch} of {self.plan.epochs}", step, self.plan.steps)


def _epoch_results(results: dict[str, GroupResult]) -> dict[str, Any]:
    """Accuracy by group and the measures of the maps, as an epoch's line in metrics.jsonl has them."""
    accuracy = {name: _rounded(result.accuracy) for name, result in results.items()}
    attention = {name: result.attention for name, result in results.items() if result.attention}
    return {**accuracy, "attention": attention}


def _rounded(values: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 6) for name, value in values.items()}


def _derived_seed(seed: int, epoch: int) -> int:
    return (seed * 1_000_003 + epoch) % 2**63
