"""The search of one model in a few padded shapes, all of which are compiled before it serves."""

import dataclasses
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from catid2_jax.decoding.trie import NodeMask
from catid2_jax.errors import InputError
from catid2_jax.progress import track
from catid2_jax.retrievers.generative import TrainedModel
from catid2_jax.seq2seq.search import retrieve, retrieve_prefixes

_retrieve = jax.jit(retrieve, static_argnames=("decoder", "beams", "k", "normalize_over"))
_retrieve_prefixes = jax.jit(
    retrieve_prefixes, static_argnames=("decoder", "beams", "depth", "normalize_over")
)

_NEARLY = 0.95  # of the most queries per second, for which fewer calls are better


@dataclasses.dataclass(frozen=True)
class Found:
    """What one query has found.

    Attributes:
        rows: int32 [beams], rows of the catalogue, best first; -1 where there is no result.
        scores: float32 [beams], log-probabilities of the IDs; -inf where there is no result.
        bound: upper bound on the scores of products that the search did not reach.
    """

    rows: np.ndarray
    scores: np.ndarray
    bound: float

    def proves(self, k: int) -> bool:
        """Whether no product outside the first k can have a higher score than one of them."""
        return bool(np.all(self.scores[:k] >= self.bound))


@dataclasses.dataclass(frozen=True, eq=False)
class Mask:
    """The products that a query may find, on the device and, for batches of several, here.

    Attributes:
        allowed: bool [N].
        nodes: the mask of the trie's nodes, per level [E_l].
        host: the same as NumPy arrays.
    """

    allowed: np.ndarray
    nodes: NodeMask
    host: tuple[np.ndarray, ...]


class CompiledSearch:
    """Beam search over a model's trie for batches of 1, 2, 4, ... queries.

    A query's result does not depend on which queries share its batch: no operation of the network
    or the search mixes rows, and what fills up a batch is thrown away.

    Attributes:
        model: the network and its trie.
        beams: prefixes kept at each level of a first search.
        max_beams: those of a last one; equal to `beams` if nothing is searched again.
        beam_rows: most queries times beams of one call.
    """

    def __init__(self, model: TrainedModel, beams: int, max_beams: int, beam_rows: int) -> None:
        """Takes the sizes.

        Raises:
            InputError: `beam_rows` is below the beams of one query, or `max_beams` below `beams`.
        """
        if max_beams and max_beams < beams:
            raise InputError("max_beams", max_beams, f"at least beams = {beams}, or 0")
        self.model, self.beams, self.max_beams = model, beams, max_beams or beams
        self.beam_rows = beam_rows
        self._seconds: dict[tuple[int, int], float] = {}  # of a call, by beams and batch
        if beam_rows < self.max_beams:
            raise InputError(
                "beam_rows",
                f"{beam_rows}, in which no query has room",
                f"at least the {self.max_beams} beams of one query",
            )

    @property
    def widths(self) -> Iterator[int]:
        """The numbers of beams that are searched with, each the double of the one before."""
        beams = self.beams
        while beams < self.max_beams:
            yield beams
            beams *= 2
        yield self.max_beams

    def shapes(self, beams: int) -> list[int]:
        """The batch sizes for a number of beams: powers of two, and the most that has room.

        The last one is the most queries of a batch.
        """
        most = self.beam_rows // beams
        return [*(1 << power for power in range((most - 1).bit_length())), most]

    def queries_at_once(self, waiting: int, beams: int) -> int:
        """How many of the queries that wait to search for at once, so that most are answered.

        A batch takes as long as its padded shape. Where that grows with the shape, 20 queries in a
        shape of 32 take longer than 16 of them in one of 16, and the rest with those that come.
        """
        shapes = self.shapes(beams)
        full = sum(shape < waiting for shape in shapes)  # and the next one has room for all

        def rate(shape: int) -> float:
            return min(shape, waiting) / self._seconds.get((beams, shape), 1.0)

        enough = _NEARLY * max(map(rate, shapes[: full + 1]))
        return min(waiting, max(shape for shape in shapes[: full + 1] if rate(shape) >= enough))

    def mask(self, allowed: np.ndarray) -> Mask:
        """The mask of bool [N], one per product."""
        nodes = self.model.trie.mask(allowed)
        return Mask(allowed, nodes, tuple(map(np.asarray, nodes)))

    def prepare(self, mask: Mask) -> None:
        """Compiles every shape, with one mask for a batch and with one per query, and times it."""
        form = self.model.source.form
        other = dataclasses.replace(mask)
        shapes = [(beams, batch) for beams in self.widths for batch in self.shapes(beams)]
        for beams, batch in track(shapes, "compiling the search", len(shapes)):
            sources = np.zeros((batch, *form.shape), form.dtype)
            self.run(sources, [mask] * batch, beams)
            if batch > 1:
                self.run(sources, [mask] * (batch - 1) + [other], beams)
            self._seconds[beams, batch] = min(
                _seconds(self.run, sources, [mask] * batch, beams) for _ in range(2)
            )

    def run(self, sources: np.ndarray, masks: Sequence[Mask], beams: int) -> list[Found]:
        """Searches for up to `shapes(beams)[-1]` queries at once.

        Args:
            sources: the queries as the network reads them, [Q, ...].
            masks: what each of them may find.
            beams: one of `widths`.
        """
        count = len(sources)
        batch = next(shape for shape in self.shapes(beams) if shape >= count)
        rows = np.resize(np.arange(count), batch)
        nodes: NodeMask = masks[0].nodes
        if any(mask is not masks[0] for mask in masks):
            levels = zip(*(masks[row].host for row in rows.tolist()), strict=True)
            nodes = tuple(jnp.asarray(np.stack(level)) for level in levels)
        found = map(np.asarray, self._call(jnp.asarray(sources[rows]), nodes, beams))
        results, scores, bound = found
        return [Found(results[n], scores[n], float(bound[n])) for n in range(count)]

    def _call(self, sources: jax.Array, nodes: NodeMask, beams: int) -> tuple[jax.Array, ...]:
        """What is found, its scores, and the bound on those of the rest."""
        model = self.model
        found = _retrieve(
            model.decoder,
            model.params,
            sources,
            model.trie,
            beams=beams,
            k=beams,
            mask=nodes,
            normalize_over=model.normalize_over,
        )
        return found.documents, found.scores, found.bound


def _seconds(function: Callable[..., object], *arguments: object) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


class PrefixSearch(CompiledSearch):
    """The same search for the first codes of IDs: rows of `Found` are nodes of the trie's level.

    Attributes:
        level: number of codes.
    """

    def __init__(self, model: TrainedModel, beams: int, beam_rows: int, level: int) -> None:
        """Takes the sizes.

        Raises:
            InputError: a level that IDs do not have.
        """
        super().__init__(model, beams, 0, beam_rows)
        if not 1 <= level <= model.trie.levels:
            raise InputError("cluster_level", level, f"0 to {model.trie.levels}")
        self.level = level

    def _call(self, sources: jax.Array, nodes: NodeMask, beams: int) -> tuple[jax.Array, ...]:
        model = self.model
        found = _retrieve_prefixes(
            model.decoder,
            model.params,
            sources,
            model.trie,
            beams=beams,
            depth=self.level,
            mask=nodes,
            normalize_over=model.normalize_over,
        )
        return found.nodes, found.scores, found.bound


class LeastRecentlyUsed:
    """A mapping of at most `size` entries, which forgets those that were not asked for longest."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._entries: OrderedDict[Hashable, object] = OrderedDict()
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Hashable) -> object | None:
        """The value of a key, or None."""
        with self._lock:
            if key not in self._entries:
                return None
            self._entries.move_to_end(key)
            return self._entries[key]

    def put(self, key: Hashable, value: object) -> None:
        """Keeps a value."""
        with self._lock:
            if self._size:
                self._entries[key] = value
                self._entries.move_to_end(key)
                while len(self._entries) > self._size:
                    self._entries.popitem(last=False)
