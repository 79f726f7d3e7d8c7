"""The processes that train one run together: one by itself, or as many as `torchrun` started.

What they say to each other outside of the network's own passes goes here, in plain values and small tensors of the
host, and never through a GPU. A team of one costs nothing: it talks to nobody, and loads nothing.

How a team ends. A process that fails leaves a word with its reason in the store that all reach, and goes; the others
find it when their connection to that process breaks, when they wait for it, or, stuck in a GPU's collective, through a
thread that looks every second and ends them `GRACE_S` later. One that is killed leaves no word: connections over
gloo break at once, and otherwise torchrun, which watches every process of its machine, ends the others. Whoever waits
longer than `PATIENCE` gives up, whatever the reason.
"""

from __future__ import annotations

import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

import torch

from sam_core.process import PLACE, started_together, usable_cores

if TYPE_CHECKING:
    from torch import Tensor
    from torch.distributed import Store

#: The longest that one process waits for another: as long as decoding a large dataset on a slow disk may take.
PATIENCE = timedelta(minutes=30)
#: Between two looks for a word of a process that has ended, and how long the main thread then has to notice by itself.
LOOK_EVERY_S = 1.0
GRACE_S = 5.0
#: A broken connection and the word of who broke it may arrive in either order.
WORD_WITHIN_S = 1.0
#: How often a process that waits for another looks into the store.
POLL_EVERY_S = 0.02
#: At the end of a run the others stay until the first process has written everything.
FAREWELL_S = 60.0

Value = TypeVar("Value")
Item = TypeVar("Item")
Word = Mapping[str, Any]

_joined = itertools.count()


class PeerEnded(RuntimeError):
    """Another process of the team has ended; `word` is what it left, None if nothing."""

    def __init__(self, word: Word | None) -> None:
        super().__init__("another process of the run has ended")
        self.word = word


@dataclass
class Team:
    """This process's place among those that train a run; made without arguments it is alone.

    Every method that exchanges something is to be called by all processes of the team, in the same order.

    Attributes:
        rank: this process among all, 0 is the first: the one that writes the run folder.
        size: how many processes there are.
        local_rank: this process among those of its machine.
        node: the machine among the machines.
        number: which one this is of the teams that this process joins one after the other.
        when_left_alone: called by a thread, with the word of who ended, just before it ends this process.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    node: str = "0"
    number: int = 0
    when_left_alone: Callable[[Word], None] | None = None
    _store: Store | None = None
    _left: threading.Event = field(default_factory=threading.Event)

    @classmethod
    def join(cls) -> Team:
        """Meet the others that torchrun has started; alone, if it has not."""
        number = next(_joined)
        if not started_together():
            return cls(number=number)
        place = {name: os.environ[name] for name in PLACE}
        local_size = int(place["LOCAL_WORLD_SIZE"])
        _share_cores(local_size)
        team = cls(
            rank=int(place["RANK"]),
            size=int(place["WORLD_SIZE"]),
            local_rank=int(place["LOCAL_RANK"]),
            node=os.environ.get("GROUP_RANK", "0"),
            number=number,
        )
        team._connect()
        return team

    @property
    def is_first(self) -> bool:
        """Whether this process speaks and writes for all."""
        return self.rank == 0

    def __enter__(self) -> Team:
        return self

    def __exit__(self, kind: type[BaseException] | None, *error: object) -> None:
        """Part. In order, all wait for the first process; after an error nobody waits for anybody."""
        if self.size == 1:
            return
        if kind is None:
            self._say_farewell()
        self._left.set()
        # After an error a GPU may still wait for one that never comes, and this would wait for it.
        if kind is None or not torch.cuda.is_available():
            torch.distributed.destroy_process_group()

    # --- sharing the work ---------------------------------------------------------------------------------------

    def part(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's share of some items: the team's shares are contiguous, in order, and as even as can be."""
        first, last = (len(items) * rank // self.size for rank in (self.rank, self.rank + 1))
        return items[first:last]

    def parts(self, items: int) -> list[int]:
        """How many of so many items each process has."""
        return [items * (rank + 1) // self.size - items * rank // self.size for rank in range(self.size)]

    # --- plain values -------------------------------------------------------------------------------------------

    def any(self, flag: bool) -> bool:
        """Whether the flag is up in any process."""
        if self.size == 1:
            return flag
        raised = torch.tensor([flag], dtype=torch.uint8)
        torch.distributed.all_reduce(raised, torch.distributed.ReduceOp.MAX)
        return bool(raised.item())

    def exchange(self, value: Value) -> list[Value]:
        """What every process has to say, in their order; anything that JSON can hold."""
        if self.size == 1:
            return [value]
        own = torch.frombuffer(bytearray(json.dumps(value).encode()), dtype=torch.uint8)
        lengths = [torch.zeros(1, dtype=torch.long) for _ in range(self.size)]
        torch.distributed.all_gather(lengths, torch.tensor([len(own)]))
        padded = torch.zeros(int(max(lengths)), dtype=torch.uint8)
        padded[: len(own)] = own
        said = [torch.zeros_like(padded) for _ in range(self.size)]
        torch.distributed.all_gather(said, padded)
        return [json.loads(bytes(text[: int(length)].numpy())) for text, length in zip(said, lengths, strict=True)]

    def from_first(self, make: Callable[[], Value]) -> Value:
        """What the first process makes, for all; anything that JSON can hold."""
        if self.size == 1:
            return make()
        return json.loads(self.bytes_from_first(lambda: json.dumps(make()).encode()))

    def bytes_from_first(self, make: Callable[[], bytes]) -> bytes:
        """What the first process makes, for all."""
        if self.size == 1:
            return make()
        content = torch.frombuffer(bytearray(make()), dtype=torch.uint8) if self.is_first else None
        length = torch.tensor([0 if content is None else len(content)])
        torch.distributed.broadcast(length, 0)
        if content is None:
            content = torch.empty(int(length), dtype=torch.uint8)
        torch.distributed.broadcast(content, 0)
        return bytes(content.numpy())

    # --- tensors ------------------------------------------------------------------------------------------------

    def sum(self, values: Tensor) -> Tensor:
        """The sum of every process's tensor, (any shape); in a team of several it is on the host."""
        if self.size == 1:
            return values
        total = values.detach().cpu().clone()
        torch.distributed.all_reduce(total)
        return total

    def gather(self, rows: Tensor) -> list[Tensor]:
        """Every process's rows, at the first process; the others get nothing.

        Args:
            rows: (n, ...), float32 on the host; n may differ and be 0, the rest is the same wherever it is not.
        """
        if self.size == 1:
            return [rows]
        shapes = self.exchange(list(rows.shape))
        longest = max(shape[0] for shape in shapes)
        if longest == 0:
            return [rows] * self.size if self.is_first else []
        inner = next(shape[1:] for shape in shapes if shape[0])
        padded = torch.zeros(longest, *inner)
        if len(rows):
            padded[: len(rows)] = rows
        gathered = [torch.zeros_like(padded) for _ in range(self.size)] if self.is_first else None
        torch.distributed.gather(padded, gathered)
        return [part[: shape[0]] for part, shape in zip(gathered or (), shapes, strict=False)]

    # --- waiting for each other ---------------------------------------------------------------------------------

    def meet(self, place: str, give_way: Callable[[], None] = lambda: None) -> None:
        """Wait until every process has come here. Each place can be met at once.

        Args:
            place: a name.
            give_way: called while waiting; may raise.

        Raises:
            PeerEnded: if one of them has ended instead.
        """
        if self.size == 1:
            return
        if self._store.add(f"at {place}", 1) == self.size:
            self._store.set(f"all at {place}", "")
        self._wait_for(f"all at {place}", give_way)

    @contextmanager
    def first_of_machine_first(self, task: str, give_way: Callable[[], None] = lambda: None) -> Iterator[None]:
        """Let one process of each machine do what leaves something on its disk, then the others, who find it there."""
        if self.size > 1 and self.local_rank > 0:
            self._wait_for(f"{task} on {self.node}", give_way)
        yield
        if self.size > 1 and self.local_rank == 0:
            self._store.set(f"{task} on {self.node}", "")

    def _wait_for(self, key: str, give_way: Callable[[], None]) -> None:
        end = time.monotonic() + PATIENCE.total_seconds()
        while not self._store.check([key]):
            word = self.word()
            if word is not None or time.monotonic() > end:
                raise PeerEnded(word)
            give_way()
            time.sleep(POLL_EVERY_S)

    def _say_farewell(self) -> None:
        """Stay until the first process is done: torchrun ends it as soon as another one exits with an error."""
        try:
            if self.is_first:
                self._store.set("done", "")
            end = time.monotonic() + FAREWELL_S
            while not self.is_first and not self._store.check(["done"]) and time.monotonic() < end:
                time.sleep(POLL_EVERY_S)
        except RuntimeError:
            pass  # the store is gone, and so is whoever was waited for

    # --- ends ---------------------------------------------------------------------------------------------------

    def leave_word(self, word: Word) -> bool:
        """Say why this process ends; the first word stays. Returns whether the others can hear it."""
        if self.size == 1:
            return False
        try:
            self._store.compare_set("word", "", json.dumps({**word, "rank": self.rank}))
        except RuntimeError:
            return False
        return True

    def word(self, *, within: float = 0.0) -> Word | None:
        """The word of the process that ended first, as soon as there is one; None where the store is gone too."""
        try:
            return _word_in(self._store, within)
        except RuntimeError:
            return None

    def is_lost_connection(self, error: BaseException) -> bool:
        """Whether an error says no more than that another process is gone."""
        if self.size == 1 or not isinstance(error, RuntimeError):
            return False
        return isinstance(error, torch.distributed.DistError) or any(name in str(error) for name in ("gloo", "NCCL"))

    # --- beginnings ---------------------------------------------------------------------------------------------

    def _connect(self) -> None:
        """Reach the store, make the process group, and begin to listen for words."""
        from torch import distributed

        host, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
        store, _, _ = next(distributed.rendezvous("env://", timeout=PATIENCE))
        # The store outlives the processes of a team, and what the last one said there must not be heard by this one.
        attempt = f"{os.environ.get('TORCHELASTIC_RESTART_COUNT', 0)}, {self.size} together, {self.number}"
        self._store = distributed.PrefixStore(attempt, store)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo",
            store=self._store,
            rank=self.rank,
            world_size=self.size,
            timeout=PATIENCE,
        )
        # A connection of its own: a call that waits holds the other one.
        ear = distributed.PrefixStore(attempt, distributed.TCPStore(host, port, wait_for_workers=False))
        threading.Thread(target=self._listen, args=(ear,), name="team", daemon=True).start()

    def _listen(self, store: Store) -> None:
        """End this process if another one has, and the main thread does not notice."""
        while not self._left.wait(LOOK_EVERY_S):
            try:
                word = _word_in(store)
            except RuntimeError:
                return  # nobody is left to hear of
            if word is not None and word["rank"] != self.rank:
                if not self._left.wait(GRACE_S):
                    self._end_at_once(word)
                return

    def _end_at_once(self, word: Word) -> None:
        try:
            if self.when_left_alone is not None:
                self.when_left_alone(word)
        finally:
            os._exit(int(word["exit_code"]))


def _word_in(store: Store, within: float = 0.0) -> Word | None:
    end = time.monotonic() + within
    while not store.check(["word"]):
        if time.monotonic() >= end:
            return None
        time.sleep(POLL_EVERY_S)
    return json.loads(store.get("word"))


def _share_cores(processes: int) -> None:
    """Give each process of this machine its part of the cores.

    torchrun leaves every process one thread, unless OMP_NUM_THREADS says otherwise: right for processes that only feed
    a GPU, and a waste where they compute, or render views. Any other number is somebody's decision, and stays.
    """
    if os.environ.get("OMP_NUM_THREADS", "1") == "1":
        torch.set_num_threads(max(1, usable_cores() // processes))
