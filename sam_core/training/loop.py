"""The training loop: one for every method, resumable after any epoch."""

from __future__ import annotations

import io
import statistics
import time
from typing import Any

import torch
from torch import nn

from sam_core.augment import draw_view, normalise, train_views, view_box
from sam_core.config import PRETRAINED_DIR, ConfigError, RunConfig
from sam_core.datasets.on_device import DeviceImages
from sam_core.datasets.run_data import RunData, load_run_data
from sam_core.datasets.subset import SEEDED_RULE
from sam_core.device import Machine, choose_machine
from sam_core.evaluation.evaluator import GroupResult, evaluate_group
from sam_core.evaluation.groups import build_groups, choose_recorded, describe_samples
from sam_core.evaluation.maps import kinds_of
from sam_core.models.backbones import data_config
from sam_core.models.sam_net import SAMNet, build_model
from sam_core.models.synchronised import synchronise_batch_norm
from sam_core.recording import layout
from sam_core.recording.reader import Run
from sam_core.recording.writer import RunWriter
from sam_core.team import Team
from sam_core.training.distributed import Onlooker, all_launches, describe_team, shared_step
from sam_core.training.failures import TrainingError
from sam_core.training.messages import Messages, tensorboard_writer
from sam_core.training.optimiser import attention_weight_at, build_optimiser, learning_rate_factor, set_learning_rates
from sam_core.training.plan import Plan
from sam_core.training.step import training_losses
from sam_core.training.stopping import Stopped, StopRequest

#: Losses stay on the device for so many steps at most before they are read back and written.
LOG_EVERY = 10


class Trainer:
    """One run: its data, network and optimiser, and the loop over its epochs."""

    def __init__(
        self, config: RunConfig, messages: Messages, stop: StopRequest | None = None, team: Team | None = None
    ) -> None:
        self.config = config
        self.messages = messages
        self.stop = stop or StopRequest()
        self.team = team or Team()
        place = self.team.local_rank if self.team.size > 1 else None
        self.machine: Machine = choose_machine(config.device, config.precision, place=place)
        with self.team.first_of_machine_first("data", self.stop.give_way):
            self.data: RunData = load_run_data(config, self._report_loading)
        self.plan = Plan.of(config, len(self.data.groups["labelled"]))
        self.stop.give_way()
        with self.team.first_of_machine_first("weights", self.stop.give_way):
            self.model = self._build_model()
        self.images = DeviceImages(self.data.store, self.machine.device)
        self.normalisation = data_config(config.backbone)
        self.optimiser = build_optimiser(self.model, config)
        if config.pooling == "compact" and len(self.plan.batch(0)[1]) < 2:
            raise ConfigError("batch_size", "compact pooling normalises over the batch and needs two images in each")
        if config.tensorboard:
            tensorboard_writer()  # refused now, not when the run folder is there
        self.shared_step: nn.Module | None = None
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
        if self.team.size > 1:
            synchronise_batch_norm(model)
        return model.to(self.machine.device, memory_format=torch.channels_last)

    # --- the run ------------------------------------------------------------------------------------------------

    def run(self, writer: RunWriter | Onlooker) -> None:
        """Train to the end.

        Raises:
            Stopped: if that was asked for; the last finished epoch is on disk.
        """
        self.writer = writer
        finished = self._restore_or_start()
        if self.config.compile != "off":
            self.model.compile_backbone(self.config.compile)
        if self.team.size > 1:
            self.shared_step = shared_step(self.model, self.config)
        self._announce(finished)
        if finished < 0:
            finished = 0
            self._finish_epoch(0, {}, started=time.monotonic())
        for epoch in range(finished + 1, self.plan.epochs + 1):
            started = time.monotonic()
            losses = self._train_epoch(epoch)
            self._finish_epoch(epoch, losses, started=started)
            self._epoch_seconds.append(time.monotonic() - started)
        self.stop.too_late = True
        self.writer.save_weights(self.model.state_dict())
        self.writer.status(state="finished", eta_s=0)
        self.messages.say("finished")

    def _restore_or_start(self) -> int:
        """Bring the run folder and the network to the last finished epoch, and return it; -1 if there is none."""
        recorded = choose_recorded(self.data, self.config.record)
        grid = self._feature_grid()
        self.kinds = kinds_of(self.config)
        self.groups = build_groups(self.data, recorded, image_size=self.config.image_size, grid=grid)
        if self.team.from_first(lambda: (self.writer.folder / layout.LAST).exists()):
            self._refuse_other_images(recorded)
            finished = self._restore()
        else:
            finished = -1
            self._start(recorded, grid)
        self._give_way()
        step = self.plan.steps_until(max(finished, 0))
        self.writer.take_over(epoch=max(finished, 0), epochs=self.plan.epochs, step=step, steps=self.plan.steps)
        return finished

    def _refuse_other_images(self, recorded: list[tuple[str, int]]) -> None:
        """Stop before the maps of one image would be written into the row of another."""
        if not self.team.is_first:
            return
        now = [(self.data.store.samples[position].id, group == "labelled") for group, position in recorded]
        before = [(sample["id"], bool(sample.get("labelled"))) for sample in Run(self.writer.folder).samples]
        if now == before:
            return
        gone, new = set(before) - set(now), set(now) - set(before)
        examples = [
            f"{next(iter(sorted(those)))[0]} {words}"
            for those, words in ((gone, "is missing"), (new, "is new"))
            if those
        ]
        raise TrainingError(
            "other images",
            f"the images are not those that the run began with ({', '.join(examples) or 'their order is another'})",
            "put them back as they were and --resume, or begin a new run; nothing that was recorded has changed",
        )

    def _restore(self) -> int:
        """Load the last finished epoch and forget what was written after it."""
        state = self._last_state()
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        finished = int(state["epoch"])
        self.writer.reopen_attention(until=finished)  # first, for it may be damaged, and then nothing must change
        self.writer.keep_metrics_until(epoch=finished)
        return finished

    def _last_state(self) -> dict[str, Any]:
        """What last.pt holds. Only the first process of a team reads it: another machine may not see the folder."""
        device = self.machine.device
        state = self.writer.load_last(device) if isinstance(self.writer, RunWriter) else None
        if self.team.size > 1:
            content = self.team.bytes_from_first((self.writer.folder / layout.LAST).read_bytes)
            state = state or torch.load(io.BytesIO(content), map_location=device, weights_only=True)
        return state

    def _start(self, recorded: list[tuple[str, int]], grid: tuple[int, int]) -> None:
        """Write what a run folder has from the beginning: classes, samples, and the space for every map."""
        mean, std = self.normalisation
        self.writer.start_over()
        self.writer.write_environment(describe_team(self.team, self.machine.device, all_launches(self.team)))
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
        torch.manual_seed(_derived_seed(self.config.seed, epoch, self.team.rank))  # for networks with dropout
        first, last = self.plan.steps_until(epoch - 1), self.plan.steps_until(epoch)
        every = max(1, min(LOG_EVERY, (last - first) // 20))
        waiting: list[dict[str, torch.Tensor]] = []
        totals: dict[str, float] = {}
        started = time.monotonic()
        for step in range(first, last):
            waiting.append(self._step(step))
            done = step + 1
            read_back = len(waiting) == every or done == last
            if read_back:
                means = self._read_losses(waiting, epoch, done)
                for name, value in means.items():
                    totals[name] = totals.get(name, 0.0) + value * len(waiting)
                waiting.clear()
            self._report_progress(epoch, done, (time.monotonic() - started) / (done - first))
            # The processes of a team agree where their GPUs are waited for anyway; on a CPU they are at every step.
            if read_back or self.team.size == 1 or self.machine.device.type == "cpu":
                self._give_way()
        self._refuse_spoilt_weights(epoch, last)
        return {name: value / (last - first) for name, value in totals.items()}

    def _step(self, step: int) -> dict[str, torch.Tensor]:
        """One optimisation step. Nothing is read back from the device here."""
        config, steps = self.config, self.plan.steps
        attention_weight = attention_weight_at(step, steps, config)
        images, labels = self._batch(step)
        set_learning_rates(self.optimiser, learning_rate_factor(step, steps, config))
        self.model.head.use_pooling(config.pooling_at(step))
        with self.machine.autocast():
            if self.shared_step is None:
                losses = training_losses(self.model, images, labels, config, attention_weight)
            else:
                scale = len(labels) * self.team.size / self.plan.images_in(step)
                losses = self.shared_step(images, labels, attention_weight, scale)
        self.optimiser.zero_grad(set_to_none=True)
        losses["loss"].backward()
        self.optimiser.step()
        return {name: value.detach() for name, value in losses.items()}

    def _batch(self, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        config = self.config
        number, places = self.plan.batch(step)
        places = self.team.part(places)
        positions = torch.tensor([self.data.groups["labelled"][place] for place in places], dtype=torch.long)
        views = [
            draw_view(
                f"view/{config.seed}/{number}/{place}", augment=config.augment, side=self.data.store.side,
                size=config.image_size, crop_scale=config.crop_scale,
            )
            for place in places
        ]  # fmt: skip
        images, labels = self.images.take(positions)
        return normalise(train_views(images, views, config.image_size), *self.normalisation), labels

    def _read_losses(self, waiting: list[dict[str, torch.Tensor]], epoch: int, step: int) -> dict[str, float]:
        """Mean losses of some steps, read back in one transfer and written as one line of metrics.jsonl."""
        names = list(waiting[0])
        table = torch.stack([torch.stack([losses[name] for name in names]) for losses in waiting])  # (steps, names)
        table = self.team.sum(table.double()) / self.team.size
        means = dict(zip(names, table.mean(dim=0).tolist(), strict=True))
        if not torch.isfinite(table).all():
            raise self._diverged("loss", epoch, step)
        rate = self.optimiser.param_groups[0]["lr"]
        self.writer.append_metrics({"kind": "step", "epoch": epoch, "step": step, **_rounded(means), "lr": rate})
        self.messages.scalars("step", step, means | {"lr": rate})
        return means

    def _refuse_spoilt_weights(self, epoch: int, step: int) -> None:
        """The loss of the last step was a number; what that step made of the weights is not known yet."""
        state = [values for values in self.model.state_dict().values() if values.is_floating_point()]
        if not torch.stack([values.isfinite().all() for values in state]).all():
            raise self._diverged("network", epoch, step)

    def _diverged(self, what: str, epoch: int, step: int) -> TrainingError:
        return TrainingError(
            "non-finite loss",
            f"the {what} became infinite or undefined at step {step} of epoch {epoch}",
            f"lower --lr (now {self.config.lr:g}) or --attention-weight, then start again; "
            f"what was recorded until epoch {epoch - 1} is kept",
        )

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
            self._give_way()

        results: dict[str, GroupResult] = {}
        for name, group in self.groups.items():
            results[name] = evaluate_group(
                self.model,
                self.images,
                group,
                self.config,
                self.machine,
                normalisation=self.normalisation,
                kinds=self.kinds,
                record=lambda rows, *maps: attention_writer.record(rows, point, *maps),
                progress=advance,
                team=self.team,
            )
        attention_writer.finish_point(point)
        return _epoch_results(results)

    def _keep_weights(self, epoch: int) -> None:
        every = self.config.keep_checkpoints
        if every and (epoch % every == 0 or epoch == self.plan.epochs):
            self.writer.save_weights(self.model.state_dict(), epoch=epoch)

    # --- progress ----------------------------------------------------------------------------------------------

    def _report_loading(self, task: str, done: int, total: int) -> None:
        self.messages.progress(task, done, total)
        self.stop.give_way()

    def _give_way(self) -> None:
        """End here if that was asked of any process of the team; all of them come by at the same moments."""
        if self.team.any(self.stop.made):
            raise Stopped

    def _announce(self, finished: int) -> None:
        config, data = self.config, self.data
        for problem in data.problems:
            self.messages.say(f"left out: {problem.path}: {problem.detail}")
        for problem in (problem for group in self.groups.values() for problem in group.problems):
            self.messages.say(f"without its mask: {problem.path}: {problem.detail}")
        for note in data.notes:
            self.messages.say(note)
        groups = ", ".join(f"{len(positions)} {name}" for name, positions in data.groups.items())
        self.messages.say(f"{config.method} on {data.dataset.name}: {len(data.classes)} classes, {groups} images")
        seed = f", split seed {config.split_seed}" if data.labelled_by == SEEDED_RULE else ""
        self.messages.say(f"labelled images by the {data.labelled_by}{seed}")
        self.messages.say(f"{self.model.weights_origin}; run folder: {self.writer.folder}")
        if config.compile != "off":
            self.messages.say("the backbone is compiled in the first epoch, which takes some minutes")
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


def _derived_seed(seed: int, epoch: int, rank: int) -> int:
    return (seed * 1_000_003 + epoch + rank * 2**40) % 2**63
