"""States of models per entity slot, and batching."""

from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from dwcp_stream.scoring import BATCH_QUANTUM, MAX_BATCH, ModelState, rounds
from dwcp_stream.scoring.batching import padded, run_batched
from dwcp_stream.windows.part import SlotPart

SLOTS = np.arange(3)


def make_state(**changes: Any) -> ModelState:
    part = ModelState(2, **changes)
    part.resize(4)
    return part


def test_it_is_a_part_of_a_partition() -> None:
    part: SlotPart = make_state()
    assert part.take(SLOTS).plain(0) is None


def test_a_slot_without_a_state_is_nan() -> None:
    part = make_state()
    assert np.isnan(part.read(SLOTS)).all()
    assert part.read(SLOTS).shape == (3, 2)


@given(
    states=hnp.arrays(np.float32, (3, 2), elements=st.floats(width=32, allow_nan=True)),
    slots=st.permutations(range(4)),
)
def test_states_survive_a_snapshot(states: np.ndarray[Any, Any], slots: list[int]) -> None:
    chosen = np.array(slots[:3])
    part, other = make_state(version=3), make_state(version=3)
    part.write(chosen, states)
    taken = part.take(chosen)
    part.write(chosen, states + np.float32(1))  # what was taken is a copy
    for i, slot in enumerate(chosen.tolist()):
        plain = taken.plain(i)
        if plain is None:
            assert np.isnan(states[i]).all()
        else:
            other.load(slot, msgspec.msgpack.decode(msgspec.msgpack.encode(plain)))
    np.testing.assert_array_equal(other.read(chosen), states)
    assert np.isnan(other.read(np.array(slots[3:]))).all()


def test_growing_keeps_and_clearing_forgets() -> None:
    part = make_state()
    part.write(SLOTS, np.arange(6, dtype=np.float32).reshape(3, 2))
    part.resize(2)  # never shrinks
    part.resize(9)
    assert part.read(SLOTS).tolist() == [[0, 1], [2, 3], [4, 5]]
    part.clear(np.array([1]))
    np.testing.assert_array_equal(part.read(SLOTS), [[0, 1], [np.nan, np.nan], [4, 5]])
    assert np.isnan(part.read(np.array([8]))).all()


@pytest.mark.parametrize("other", [ModelState(2, version=2), ModelState(3, version=1)])
def test_a_state_of_another_model_is_not_taken_over(other: ModelState) -> None:
    part = make_state(version=1)
    part.write(SLOTS, np.ones((3, 2), np.float32))
    other.resize(3)
    other.load(0, part.take(SLOTS).plain(0))
    assert np.isnan(other.read(SLOTS)).all()


# --- batching -------------------------------------------------------------------------------------------


@given(slots=st.lists(st.integers(0, 5), max_size=30))
def test_rounds_hold_each_slot_once_and_keep_its_order(slots: list[int]) -> None:
    array = np.array(slots, np.int64)
    parts = rounds(array)
    assert sorted(np.concatenate(parts).tolist() if parts else []) == list(range(len(slots)))
    for part in parts:
        assert len(set(array[part].tolist())) == len(part)
        assert (np.diff(part) > 0).all()
    for slot in set(slots):
        mine = [index for part in parts for index in part.tolist() if slots[index] == slot]
        assert mine == [index for index, other in enumerate(slots) if other == slot]
    assert len(parts) == max((slots.count(slot) for slot in slots), default=0)


@given(size=st.integers(1, 3 * MAX_BATCH))
def test_any_number_of_windows_is_run_in_whole_quanta(size: int) -> None:
    windows = np.arange(size * 2, dtype=np.float32).reshape(size, 2)
    sizes = []

    def double(arrays: Any) -> Any:
        sizes.append(len(arrays["window"]))
        assert arrays["window"].flags.c_contiguous
        assert set(arrays["window"][:, 0].tolist()) <= set(windows[:, 0].tolist())  # padding repeats
        return {"score": arrays["window"][:, 0] * 2}

    found = run_batched(double, {"window": windows, "time": windows})
    np.testing.assert_array_equal(found["score"], windows[:, 0] * 2)
    assert all(n % BATCH_QUANTUM == 0 and 0 < n <= MAX_BATCH for n in sizes)
    assert sum(sizes) - size < BATCH_QUANTUM


def test_whole_quanta_are_not_copied() -> None:
    windows = np.zeros((2 * MAX_BATCH, 3), np.float32)
    seen = []

    def note(arrays: Any) -> Any:
        seen.append(arrays["window"])
        return {"score": arrays["window"][:, 0]}

    run_batched(note, {"window": windows})
    assert len(seen) == 2
    assert all(np.shares_memory(part, windows) for part in seen)
    whole = {"window": windows}
    assert padded(whole) is whole
