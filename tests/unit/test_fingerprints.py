"""Digests and samples depend on the elements alone, not on how or where they are stored."""

from __future__ import annotations

import numpy as np
import pytest
import xxhash

from sizeforensics import fingerprints as subject
from sizeforensics.fingerprints import fingerprints
from sizeforensics.views import cover
from tests.builders import Piece, artifact, assemble, random, view


def prints(inventory, *advance):
    return fingerprints(inventory, cover(inventory), *advance)


@pytest.mark.parametrize("shape", [(), (1,), (64,), (65,), (300, 7), (1_000, 1_000)])
def test_the_digest_is_that_of_the_elements_and_the_sample_spans_them(shape):
    array = random(1, *shape)
    (found,) = prints(artifact({"w": array}))
    assert found.digest == xxhash.xxh3_128(array.tobytes()).digest()
    flat = array.reshape(-1)
    assert found.sample[0] == flat[0]
    assert found.sample[-1] == flat[-1]
    assert len(found.sample) == min(len(flat), subject.SAMPLE)
    assert np.isin(found.sample, flat).all()


def test_a_transposed_view_is_the_transposed_array():
    array = random(2, 400, 900)
    turned = view("t", array, 0, (900, 400), (1, 900))
    strided = prints(assemble([Piece("s", array)], [turned]))[0]
    plain = prints(artifact({"w": np.ascontiguousarray(array.T)}))[0]
    assert strided.digest == plain.digest
    assert (strided.sample == plain.sample).all()


def test_a_broadcast_is_the_array_written_out():
    row = random(3, 10)
    wide = view("t", row, 0, (50, 10), (0, 1))
    broadcast = prints(assemble([Piece("s", row)], [wide]))[0]
    plain = prints(artifact({"w": np.tile(row, (50, 1))}))[0]
    assert broadcast.digest == plain.digest


def test_what_cannot_be_read_has_none():
    array = random(4, 10)
    assert prints(assemble([Piece("s", array, readable=False)], [view("t", array, 0)])) == [None]


def test_equal_views_are_read_once_and_progress_counts_what_was_read():
    array = random(5, 100)
    done = []
    found = prints(artifact({"a": array}, views=[view("tied", array, 0)]), done.append)
    assert found[0] is found[1]
    assert sum(done) == 400


def test_empty_tensors_have_the_digest_of_nothing():
    (found,) = prints(artifact({"e": np.zeros((0, 3), dtype=np.float32)}))
    assert found.digest == xxhash.xxh3_128(b"").digest()


def test_large_tensors_on_threads_give_the_same(monkeypatch):
    arrays = {f"w{seed}": random(seed, 64) for seed in range(8)}
    plain = [found.digest for found in prints(artifact(arrays))]
    monkeypatch.setattr(subject, "LARGE", 0)
    assert [found.digest for found in prints(artifact(arrays))] == plain
