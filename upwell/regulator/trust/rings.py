"""Rings: accounts that come again and again to the same few creators, and to hardly anyone who is not among them.

Two creators are *tied* where far more accounts are regulars of both than chance would have it: of two creators with
``a`` and ``b`` regulars among ``n`` accounts, ``a b / n`` in the mean (the configuration model of a bipartite graph).
Regulars of the same topic are no wonder, so that mean is counted within a topic where creators share one. Groups are
the connected components of ties, by ``scipy.sparse.csgraph``; a group counts by how full its block of accounts and
creators is, which is the density that dense-subgraph detectors seek (Hooi et al. 2016, FRAUDAR, KDD, section 3).
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse import csgraph
from scipy.stats import poisson

Floats = npt.NDArray[np.float32]
KEPT = 0.9
"""Share of visits that a day leaves: a ring is who comes now."""
REGULAR = 2.0
"""Direct visits from which an account is a creator's regular."""
FEW = 256
"""Creators of whom one account may be a regular: whoever is of more is a crawler, and ties everybody to everybody."""
SURPRISE = 1e-5
"""Chance at most that two creators share so many regulars, for a tie."""
SHARED = 3
"""Regulars that two creators must share for a tie, however little chance would give them."""
JOINS = 0.4
"""Share of a group's accounts from which a creator whom they come to is of it, tied by chance or not."""
SMALLEST = 3
"""Creators of a group at least."""


class Rings(NamedTuple):
    """How deep each is in a ring, f32 in [0, 1]: 0 for who is in none."""

    accounts: Floats  # [A]
    creators: Floats  # [K]


def find(visits: Any, topic: npt.NDArray[np.int_]) -> Rings:
    """Rings among accounts and creators.

    Args:
        visits: direct visits of accounts to creators, fading: a SciPy CSR matrix ``[A, K]``.
        topic: of each creator ``[K]``.
    """
    accounts, creators = visits.shape
    nothing = Rings(np.zeros(accounts, np.float32), np.zeros(creators, np.float32))
    regular = visits.multiply(visits >= REGULAR).tocsr()
    regular.eliminate_zeros()
    regular.data = np.ones_like(regular.data)
    several = np.diff(regular.indptr)
    # Regulars of one creator tie nobody, and they are most of all.
    of = regular[np.flatnonzero((several >= 2) & (several <= FEW))]
    if of.shape[0] == 0:
        return nothing
    shared = sparse.triu((of.T @ of).tocsr(), 1).tocoo()
    enough = shared.data >= SHARED
    one, other, count = shared.row[enough], shared.col[enough], shared.data[enough]
    degree = np.asarray(regular.sum(0)).ravel()
    within = np.bincount(topic, degree, topic.max() + 1)  # a topic's public, at most
    public = np.where(topic[one] == topic[other], np.minimum(within[topic[one]], accounts), accounts)
    chance = degree[one] * degree[other] / np.maximum(public, 1.0)
    tied = poisson.sf(count - 1, chance) < SURPRISE
    ties = sparse.coo_matrix((np.ones(tied.sum()), (one[tied], other[tied])), (creators, creators))
    _, group = csgraph.connected_components(ties, directed=False)
    size = np.bincount(group)
    member = size[group] >= SMALLEST
    if not member.any():
        return nothing
    seeds = sparse.coo_matrix(
        (np.ones(member.sum()), (np.flatnonzero(member), group[member])), (creators, len(size))
    ).tocsr()
    core = (regular @ seeds >= 2.0).astype(np.float64)  # [A, groups], accounts of a group
    joined = (regular.T @ core).multiply(1.0 / np.maximum(core.sum(0), 1.0)).tocsr() >= JOINS
    block = (joined.astype(np.float64) + seeds > 0).astype(np.float64)
    many = np.asarray(block.sum(0)).ravel()
    share = (regular @ block).multiply(1.0 / np.maximum(many, 1.0)).tocsr()  # of a group that an account comes to
    full = np.asarray(share.multiply(core).sum(0)).ravel() / np.maximum(np.asarray(core.sum(0)).ravel(), 1.0)
    return Rings(deepest(share.multiply(core)), deepest(block.multiply(full[None, :])))


def to_creators(visits: Any, creator: npt.NDArray[np.int_], creators: int) -> Any:
    """Visits to contents, a SciPy matrix ``[A, M]``, as visits to their creators ``[A, K]``."""
    of = sparse.coo_matrix((np.ones(len(creator)), (np.arange(len(creator)), creator)), (len(creator), creators))
    return (visits @ of.tocsr()).tocsr()


def deepest(groups: Any) -> Floats:
    """The largest value of each row of a sparse matrix."""
    return np.asarray(groups.tocsr().max(1).todense(), np.float32).ravel()
