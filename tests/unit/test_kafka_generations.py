from hypothesis import given
from hypothesis import strategies as st

from dwcp_stream.kafka.generations import PARTITION_KEY, Generations, make_key, split_key
from dwcp_stream.streams import encode_entity

NAMES = st.one_of(st.just(PARTITION_KEY), st.lists(st.text(min_size=1), min_size=1).map(encode_entity))


@given(NAMES, st.integers(0, 2**31))
def test_key_round_trip_for_any_entity(name, generation):
    assert split_key(make_key(name, generation)) == (name, generation)


@given(st.lists(st.text(min_size=1), min_size=1))
def test_no_entity_can_be_taken_for_the_partition_record(parts):
    assert encode_entity(parts) != PARTITION_KEY


@given(st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 4), st.booleans())))
def test_only_the_current_key_of_each_name_is_kept(events):
    generations, current = Generations(), {}
    seen = set()
    for name, generation, won in events:
        seen.add((name, generation))
        if won:
            generations.won(name, generation)
            current[name] = generation
        else:
            generations.lost(name, generation)
    stale = set(generations.stale())
    kept = set(current.items())
    assert stale == {key for key in seen if key not in kept}


def test_retiring_makes_the_current_key_stale_and_forgetting_removes_it():
    generations = Generations()
    generations.won("a", 3)
    generations.retire("a")
    assert generations.stale() == [("a", 3)]
    assert generations.winner("a") is None
    generations.forget("a", 3)
    assert generations.stale() == []


def test_a_reborn_entity_keeps_its_new_key():
    generations = Generations()
    generations.won("a", 3)
    generations.retire("a")
    generations.won("a", 3)
    assert generations.stale() == []
