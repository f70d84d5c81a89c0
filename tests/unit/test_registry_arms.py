"""Which version serves and which run beside it: champion, challenger with its share, shadow."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dwcp_stream.errors import ModelError
from dwcp_stream.registry import ModelRepository
from dwcp_stream.registry.history import read_history
from dwcp_stream.registry.promotion import promote, rollback, shadow, split
from dwcp_stream.registry.upkeep import removable
from tests.model_graphs import make_files, make_manifest

NAME = "tiny-anomaly"
ARMS = ("champion", "challenger", "shadow")


@pytest.fixture(scope="module")
def versions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    repository = ModelRepository(tmp_path_factory.mktemp("versions"))
    for _ in range(4):
        repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly"))
    return repository.root / NAME


@pytest.fixture
def repository(tmp_path: Path, versions: Path) -> ModelRepository:
    return fresh(tmp_path, versions)


def fresh(root: Path, versions: Path) -> ModelRepository:
    (root / NAME).symlink_to(versions)
    repository = ModelRepository(root)
    promote(repository, NAME, 1)
    return repository


def test_a_shadow_comes_and_goes(repository: ModelRepository) -> None:
    assert shadow(repository, NAME, 2, by="trainer", reason="candidate") is None
    assert shadow(repository, NAME, 3) == 2
    assert repository.aliases(NAME) == {"champion": 1, "shadow": 3}
    assert shadow(repository, NAME, None) == 3
    assert repository.aliases(NAME) == {"champion": 1}
    first = next(move for move in read_history(repository.root) if move.alias == "shadow")
    assert (first.by, first.reason, first.version) == ("trainer", "candidate", 2)


def test_a_shadow_becomes_challenger_with_a_share_and_champion_in_the_end(repository: ModelRepository) -> None:
    shadow(repository, NAME, 2)
    assert split(repository, NAME, 2, 10) is None
    assert (repository.aliases(NAME), repository.share(NAME)) == ({"champion": 1, "challenger": 2}, 10)
    assert split(repository, NAME, 2, 50) == 2
    assert repository.share(NAME) == 50
    promote(repository, NAME, 2)
    assert (repository.aliases(NAME), repository.share(NAME)) == ({"champion": 2, "last_good": 1}, 0)


def test_a_challenger_ends_with_its_share_or_becomes_shadow_again(repository: ModelRepository) -> None:
    split(repository, NAME, 2, 10)
    assert split(repository, NAME, None, 0) == 2
    assert (repository.aliases(NAME), repository.share(NAME)) == ({"champion": 1}, 0)
    split(repository, NAME, 2, 10)
    shadow(repository, NAME, 2)
    assert (repository.aliases(NAME), repository.share(NAME)) == ({"champion": 1, "shadow": 2}, 0)


@pytest.mark.parametrize("share", [0, -1, 101])
def test_a_share_that_is_none(repository: ModelRepository, share: int) -> None:
    with pytest.raises(ModelError, match="1 to 100"):
        split(repository, NAME, 2, share)
    assert repository.aliases(NAME) == {"champion": 1}


def test_what_cannot_run_beside_the_champion_is_said_and_nothing_moves(repository: ModelRepository) -> None:
    with pytest.raises(ModelError, match="is champion"):
        shadow(repository, NAME, 1)
    with pytest.raises(ModelError, match="is champion"):
        split(repository, NAME, 1, 10)
    with pytest.raises(ModelError, match="no version 9"):
        shadow(repository, NAME, 9)
    for version in (1, None):
        with pytest.raises(ModelError, match="no model 'nothing'"):
            shadow(repository, "nothing", version)
    assert repository.aliases(NAME) == {"champion": 1}


def test_a_version_that_does_not_verify_runs_nowhere(tmp_path: Path) -> None:
    repository = ModelRepository(tmp_path)
    for _ in range(2):
        repository.publish(NAME, make_files("anomaly"), make_manifest("anomaly"))
    with (tmp_path / NAME / "2/model.onnx").open("ab") as file:
        file.write(b"\0")
    for move in (lambda: shadow(repository, NAME, 2), lambda: split(repository, NAME, 2, 10)):
        with pytest.raises(ModelError, match="SHA-256"):
            move()
    assert repository.aliases(NAME) == {}


def test_a_share_in_the_history_keeps_no_version(repository: ModelRepository) -> None:
    split(repository, NAME, 4, 2)
    assert removable(repository, NAME, keep=1, days=30) == [2, 3]


moves = st.lists(
    st.tuples(st.sampled_from(["promote", "shadow", "split", "rollback"]), st.none() | st.integers(1, 4)), max_size=8
)


@settings(max_examples=15, deadline=None)
@given(moves)
def test_after_any_moves_each_arm_is_another_version(tmp_path_factory, versions: Path, given: list) -> None:
    repository = fresh(tmp_path_factory.mktemp("models"), versions)
    for what, version in given:
        try:
            if what == "promote":
                promote(repository, NAME, version or 1)
            elif what == "shadow":
                shadow(repository, NAME, version)
            elif what == "split":
                split(repository, NAME, version, 20)
            else:
                rollback(repository, NAME)
        except ModelError as error:
            assert "is champion" in str(error) or "last_good" in str(error)  # noqa: PT017  either is right, others are not
        pointed = repository.aliases(NAME)
        arms = [pointed[arm] for arm in ARMS if arm in pointed]
        assert len(set(arms)) == len(arms)
        assert repository.share(NAME) == (20 if "challenger" in pointed else 0)
