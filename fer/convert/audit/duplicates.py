"""Faces that are there more than once: identical ones by a hash of their pixels, similar ones by a perceptual hash.

Near-identical are two faces whose perceptual hashes (`fer.convert.audit.image_hashes`) differ in at most `THRESHOLD`
of 64 bits. On FER-2013 nearly all pairs at that distance show the same photograph, cropped or printed over anew; from 6
on, different people come in.
"""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np

from fer.convert.audit.image_hashes import ImageHashes

THRESHOLD = 4
METHOD = "DCT perceptual hash, 64 bits (Zauner 2010)"
NEARLY_BLANK_STD = 5.0  # standard deviation in grey levels; the faintest faces of FER-2013 that can be seen have 9

_NUM_PARTS = 6  # of a hash; with 4 bits wrong, at least two are right
_BIT_COUNTS = np.array([bin(value).count("1") for value in range(1 << 16)], np.uint8)


@dataclasses.dataclass(frozen=True)
class DuplicateGroups:
    """Of n faces. Groups are numbered by their first face, from 0."""

    exact: np.ndarray  # int64 [n], the group of identical faces
    near: np.ndarray  # int64 [n], the group of identical and near-identical faces, however many steps apart
    pairs: np.ndarray  # int64 [k, 2], near-identical, not identical faces, each by the first of its exact group


def find_duplicates(prints: ImageHashes) -> DuplicateGroups:
    """Finds the twins among faces. Blank ones look alike without being so: they are only compared exactly."""
    keys = np.ascontiguousarray(prints.digests).view("V16").ravel()
    _, first, exact = np.unique(keys, return_index=True, return_inverse=True)
    exact = _renumber_groups(exact.ravel())
    first = np.sort(first)
    seen = first[prints.deviations()[first] >= NEARLY_BLANK_STD]
    pairs = seen[close_pairs(prints.hashes[seen], THRESHOLD)]
    near = _renumber_groups(_connected_components(len(first), exact[pairs])[exact])
    return DuplicateGroups(exact, near, pairs)


def close_pairs(hashes: np.ndarray, most: int) -> np.ndarray:
    """The pairs of hashes that differ in few bits.

    Cut into six parts, two hashes that differ in at most four bits agree in two parts at least: for each two parts,
    the hashes are sorted by them, and only neighbours are compared (Manku et al. 2007, "Detecting near-duplicates
    for web crawling", section 3).

    Args:
      hashes: uint64 [n].
      most: bits, at most 4.

    Returns:
      int64 [k, 2], each pair once, the smaller first, in ascending order.
    """
    if most > _NUM_PARTS - 2:
        raise ValueError(f"pairs are found up to {_NUM_PARTS - 2} bits apart, not {most}")
    edges = np.linspace(0, 64, _NUM_PARTS + 1).astype(int)
    masks = [(1 << int(high)) - (1 << int(low)) for low, high in zip(edges[:-1], edges[1:])]
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
    """Bits that differ, uint8 [n], between uint64 [n] and uint64 [n]."""
    return _BIT_COUNTS[(one ^ other).view(np.uint16).reshape(-1, 4)].sum(axis=1, dtype=np.uint8)


def _connected_components(count: int, links: np.ndarray) -> np.ndarray:
    """Of nodes 0 to count - 1 the smallest that each is linked to in any number of steps, int64 [count]."""
    smallest = np.arange(count)
    while True:
        linked = smallest[links].min(axis=1, initial=count)
        smaller = smallest.copy()
        np.minimum.at(smaller, links[:, 0], linked)
        np.minimum.at(smaller, links[:, 1], linked)
        smaller = smaller[smaller]
        if (smaller == smallest).all():
            return smallest
        smallest = smaller


def _renumber_groups(groups: np.ndarray) -> np.ndarray:
    """The same groups, numbered in the order in which they come."""
    _, first, inverse = np.unique(groups, return_index=True, return_inverse=True)
    rank = np.empty(len(first), np.int64)
    rank[np.argsort(first)] = np.arange(len(first))
    return rank[inverse.ravel()]
