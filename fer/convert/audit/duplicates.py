"""Duplicates: identical faces by a hash of their pixels, near-duplicates by a perceptual hash.

Near-duplicates are two faces whose perceptual hashes (`fer.convert.audit.image_hashes`) differ in at most `THRESHOLD`
of 64 bits. On FER-2013, nearly all pairs at that distance show the same photograph, cropped or overprinted; from
distance 6 on, pairs of different people occur.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable

import numpy as np

from fer.convert.audit import image_hashes
from fer.convert.audit.image_hashes import ImageHashes

THRESHOLD = 4
METHOD = "DCT perceptual hash, 64 bits (Zauner 2010)"
NEARLY_BLANK_STD = 5.0  # standard deviation in grey levels; the faintest visible faces of FER-2013 have 9

_BATCH_SIZE = 1024  # faces in memory at once
_NUM_PARTS = 6  # of a hash; if 4 bits differ, at least two parts are equal
_BIT_COUNTS = np.unpackbits(np.arange(1 << 16, dtype=np.uint16).view(np.uint8).reshape(-1, 2), axis=1).sum(1, np.uint8)


@dataclasses.dataclass(frozen=True)
class DuplicateGroups:
    """Duplicates among n faces. Groups are numbered from 0 by their first face."""

    exact: np.ndarray  # int64 [n], the group of identical faces
    near: np.ndarray  # int64 [n], the group of duplicates and near-duplicates, connected in any number of steps
    pairs: np.ndarray  # int64 [k, 2], near-duplicates that are not identical, each by the first face of its exact group


def find_duplicates(hashes: ImageHashes, read_faces: Callable[[np.ndarray], np.ndarray]) -> DuplicateGroups:
    """Finds duplicates. Nearly blank faces have similar hashes by chance, and are only compared exactly.

    Args:
      hashes: of n faces.
      read_faces: returns the faces at ascending positions, int64 [k], as uint8 [k, 2304].
    """
    exact = _group_identical(hashes, read_faces)
    first = np.unique(exact, return_index=True)[1]
    visible = first[hashes.deviations()[first] >= NEARLY_BLANK_STD]
    pairs = visible[close_pairs(hashes.hashes[visible], THRESHOLD)]
    near = _renumber_groups(_connected_components(len(first), exact[pairs])[exact])
    return DuplicateGroups(exact, near, pairs)


def _group_identical(hashes: ImageHashes, read_faces: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Returns the group of identical faces of each face, int64 [n].

    Identical faces have the same perceptual hash and sums. Only faces that share these with another one are read and
    compared by a hash of all pixels; they are few.
    """
    order = np.lexsort((hashes.squares, hashes.sums, hashes.hashes))
    columns = [column[order] for column in (hashes.hashes, hashes.sums, hashes.squares)]
    differs = np.logical_or.reduce([column[1:] != column[:-1] for column in columns])
    groups = np.empty(len(order), np.int64)
    groups[order] = np.cumsum(np.concatenate([[0], differs]))[: len(order)]
    shared = np.flatnonzero(np.bincount(groups, minlength=1)[groups] > 1)
    number_of_digest: dict[bytes, int] = {}
    for start in range(0, len(shared), _BATCH_SIZE):
        batch = shared[start : start + _BATCH_SIZE]
        digests = image_hashes.digest_images(read_faces(batch))
        groups[batch] = [number_of_digest.setdefault(digest, len(order) + len(number_of_digest)) for digest in digests]
    return _renumber_groups(groups)


def close_pairs(hashes: np.ndarray, most: int) -> np.ndarray:
    """Returns the pairs of hashes that differ in few bits.

    If hashes are cut into six parts, two hashes that differ in at most four bits agree in at least two parts. For each
    two parts, the hashes are sorted by these, and only neighbours are compared (Manku et al. 2007, "Detecting
    near-duplicates for web crawling", section 3).

    Args:
      hashes: uint64 [n].
      most: maximum number of bits, at most 4.

    Returns:
      int64 [k, 2], each pair once, the smaller index first, in ascending order.
    """
    if most > _NUM_PARTS - 2:
        raise ValueError(f"most is {most}; it must be at most {_NUM_PARTS - 2} bits")
    edges = np.linspace(0, 64, _NUM_PARTS + 1).astype(int)
    masks = [(1 << int(high)) - (1 << int(low)) for low, high in itertools.pairwise(edges)]
    found = [np.empty((0, 2), np.int64)]
    for one, other in itertools.combinations(masks, 2):
        keys = hashes & np.uint64(one | other)
        order = np.argsort(keys, kind="stable")
        sorted_keys, sorted_hashes = keys[order], hashes[order]
        at, step = np.arange(len(keys)), 1
        while len(at := at[at < len(keys) - step]):
            at = at[sorted_keys[at] == sorted_keys[at + step]]
            near = at[_hamming_distance(sorted_hashes[at], sorted_hashes[at + step]) <= most]
            found.append(np.stack([order[near], order[near + step]], axis=1))
            step += 1
    pairs = np.sort(np.concatenate(found), axis=1)
    return np.unique(pairs, axis=0) if len(pairs) else pairs


def _hamming_distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Returns the number of bits that differ, uint8 [n], between uint64 [n] and uint64 [n]."""
    return _BIT_COUNTS[(one ^ other).view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.uint8)


def _connected_components(count: int, links: np.ndarray) -> np.ndarray:
    """Returns the number of the connected component of each node, 0 to count - 1, as int32 [count]."""
    from scipy.sparse import coo_matrix, csgraph  # take a fifth of a second to load

    graph = coo_matrix((np.ones(len(links), bool), (links[:, 0], links[:, 1])), shape=(count, count))
    return csgraph.connected_components(graph, directed=False)[1]


def _renumber_groups(groups: np.ndarray) -> np.ndarray:
    """Returns the same groups, numbered in the order of their first members."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]
